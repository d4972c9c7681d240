"""Carries many jobs to their ends through the ledger: a bounded number at a time, again where one was lost.

Sending twice is safe, since a job's id does not change. So what the ledger does not know after a while is simply
sent again: a broker whose log is in memory may have died with it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from headrace_workers.cli.jobfile import Entry
from headrace_workers.cli.lookup import Jobs
from headrace_workers.cli.receipt import Receipt

WINDOW = 2048  # jobs on their way: many full groups for every worker, and a bound on what a broker must hold
RESEND_SECONDS = 10.0  # after that the ledger should know; the wait doubles each time
MAX_RESEND_SECONDS = 160.0


@dataclass(slots=True)
class _Sent:
    """An entry that was sent, when it is to be sent again, and how long it waited for that."""

    entry: Entry
    due: float
    wait: float


class Feed:
    """Entries in, receipts out, one `turn` after the other.

    `publish` sends entries; what it could not send is sent again later. Errors of `jobs` come through, and nothing
    is lost by them: call `turn` again.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        jobs: Jobs,
        publish: Callable[[Sequence[Entry]], None],
        *,
        started_ms: int,
        monotonic: Callable[[], float],
        window: int = WINDOW,
    ) -> None:
        self._entries = iter(entries)
        self._jobs = jobs
        self._publish = publish
        self._started_ms = started_ms
        self._monotonic = monotonic
        self._window = window
        self._admitted: list[Entry] = []  # taken from the entries, and neither sent nor looked up yet
        self._sent: dict[str, _Sent] = {}  # the ledger has not been seen to know them
        self._accepted: dict[str, Entry] = {}  # known to the ledger
        self._ended: list[Receipt] = []
        self._exhausted = False
        self.resent = 0

    @property
    def done(self) -> bool:
        """Whether every entry has ended and been handed out."""
        return self._exhausted and not (self._admitted or self._sent or self._accepted or self._ended)

    @property
    def accepted(self) -> Collection[str]:
        """The ids of those that the ledger has and that have not ended, the longest there first."""
        return self._accepted.keys()

    def turn(self) -> list[Receipt]:
        """Send what there is room for, and collect what has ended."""
        self._admit()
        self._resend()
        self._collect()
        ended, self._ended = self._ended, []
        return ended

    def _admit(self) -> None:
        room = self._window - len(self._sent) - len(self._accepted) - len(self._admitted)
        if room > 0 and not self._exhausted:
            more = list(islice(self._entries, room))
            self._admitted += more
            self._exhausted = len(more) < room
        if not self._admitted:
            return
        # What an earlier run has sent is not sent again: the ledger has it, perhaps with its end.
        known = self._jobs.accepted([entry.job_id for entry in self._admitted])
        admitted, self._admitted = self._admitted, []
        self._accepted |= {entry.job_id: entry for entry in admitted if entry.job_id in known}
        due = self._monotonic() + RESEND_SECONDS
        new = [_Sent(entry, due, RESEND_SECONDS) for entry in admitted if entry.job_id not in known]
        self._sent |= {sent.entry.job_id: sent for sent in new}
        if new:
            self._publish([sent.entry for sent in new])

    def _resend(self) -> None:
        now = self._monotonic()
        late = [sent for sent in self._sent.values() if now >= sent.due]
        if not late:
            return
        for sent in late:
            sent.wait = min(sent.wait * 2, MAX_RESEND_SECONDS)
            sent.due = now + sent.wait
        self.resent += len(late)
        self._publish([sent.entry for sent in late])

    def _collect(self) -> None:
        if self._sent:
            for job_id in self._jobs.accepted(self._sent):
                self._accepted[job_id] = self._sent.pop(job_id).entry
        if self._sent:
            for receipt in self._jobs.refused(self._sent, self._started_ms):
                self._ended.append(replace(receipt, line=self._sent.pop(receipt.job_id or "").entry.line))
        if self._accepted:
            for receipt in self._jobs.ended(self._accepted):
                self._ended.append(replace(receipt, line=self._accepted.pop(receipt.job_id or "").line))
