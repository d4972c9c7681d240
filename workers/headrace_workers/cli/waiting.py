"""The wait for the ends of jobs that were just sent: by Kafka, and by the ledger if it can be reached."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from headrace_producers import Received
from headrace_schemas.errors import Unavailable
from headrace_workers.cli.jobfile import JobEntry
from headrace_workers.cli.ledger_jobs import Jobs
from headrace_workers.cli.output import say
from headrace_workers.cli.receipt_lines import Receipt

_POLL_SECONDS = 0.5
_ASK_SECONDS = 5.0  # without a word from Kafka the ledger is asked
_CONFIRM_SECONDS = 0.1


class Reader(Protocol):
    """The part of a ResultReader that is needed here. It was opened before the jobs were sent."""

    def read(self, *, timeout: float | None = None) -> Iterator[Received]:
        """Yield the ends of jobs that come within the time."""


Resend = Callable[[Sequence[JobEntry]], None]
Look = Callable[[Iterable[str]], None]


class Waiting:
    """Jobs that were sent and have not ended.

    A job that the ledger does not know after some seconds is sent again as the same event, which is safe. `look` is
    then called with the ids of the known jobs, so that it can report what delays them.
    """

    def __init__(
        self,
        entries: Sequence[JobEntry],
        *,
        resend: Resend,
        monotonic: Callable[[], float],
        jobs: Jobs | None,
        since_ms: int = 0,
        look: Look | None = None,
    ) -> None:
        self.open = {entry.job_id: entry for entry in entries}
        self._unconfirmed = set(self.open)
        self._resend = resend
        self._monotonic = monotonic
        self._jobs = jobs
        self._since_ms = since_ms
        self._look = look
        self._warned = False

    def confirm(self, timeout: float, sleep: Callable[[float], None]) -> tuple[list[Receipt], int]:
        """Wait until the ledger has taken in or refused every job: the refusals, and how many it does not know yet."""
        until = self._monotonic() + timeout
        resend_at = self._monotonic() + _ASK_SECONDS
        refused: list[Receipt] = []
        while self._jobs is not None:
            refused += self._sort_out(self._jobs)
            if not self._unconfirmed or self._monotonic() >= until:
                break
            if self._monotonic() >= resend_at:
                resend_at = self._monotonic() + _ASK_SECONDS
                self._send_again()
            sleep(_CONFIRM_SECONDS)
        return refused, len(self._unconfirmed)

    def ends(self, reader: Reader, timeout: float | None) -> Iterator[Receipt]:
        """Yield the receipts as they come, until each job has one or the time is over."""
        until = None if timeout is None else self._monotonic() + timeout
        ask_at = self._monotonic() + _ASK_SECONDS
        looked_back = False
        while self.open:
            left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, until - self._monotonic())
            if left <= 0:
                yield from self._ask(self._jobs, again=False)
                return
            for received in reader.read(timeout=left):
                receipt = Receipt(received.event)
                if entry := self._close(receipt.job_id):
                    yield replace(receipt, line=entry.line)
                    ask_at = self._monotonic() + _ASK_SECONDS
                if not self.open:
                    return
            if not looked_back:  # jobs of an earlier run may have ended: Kafka will not send those ends again
                looked_back = True
                yield from self._ask(self._jobs, again=False)
            elif self._monotonic() >= ask_at:
                ask_at = self._monotonic() + _ASK_SECONDS
                yield from self._ask(self._jobs, again=True)

    def _ask(self, jobs: Jobs | None, *, again: bool) -> list[Receipt]:
        """Return ends that Kafka did not bring. With `again`, send jobs again that the ledger does not know."""
        found: list[Receipt] = []
        if jobs is None:
            return found
        try:
            found += self._sort_out(jobs)
            for receipt in jobs.ended(set(self.open) - self._unconfirmed):
                if entry := self._close(receipt.job_id):
                    found.append(replace(receipt, line=entry.line))
            if again:
                self._tell_unknown()
                self._send_again()
                if self._look is not None:
                    self._look(job_id for job_id in self.open if job_id not in self._unconfirmed)
        except Unavailable as error:
            say(f"waiting: {error}")
        return found

    def _sort_out(self, jobs: Jobs) -> list[Receipt]:
        # Refusals first: the ledger may know the job, and have refused ours for saying something else under its key.
        refused = []
        for receipt in jobs.refused(set(self.open), self._since_ms):
            if entry := self._close(receipt.job_id):
                refused.append(replace(receipt, line=entry.line))
        self._unconfirmed &= set(self.open)
        self._unconfirmed -= jobs.accepted(self._unconfirmed)
        return refused

    @property
    def unknown(self) -> int:
        """The number of open jobs that the ledger did not know at the last look; 0 without a ledger."""
        return len(self._unconfirmed & set(self.open)) if self._jobs is not None else 0

    def _tell_unknown(self) -> None:
        if self.unknown and not self._warned:
            self._warned = True
            say(
                f"the ledger does not know {self.unknown} of the jobs yet; they are sent again: "
                "`headrace status` tells what is wrong"
            )

    def _send_again(self) -> None:
        entries = [self.open[job_id] for job_id in self._unconfirmed]
        if entries:
            try:
                self._resend(entries)
            except Unavailable as error:
                say(f"{len(entries)} jobs are sent again later: {error}")

    def _close(self, job_id: str | None) -> JobEntry | None:
        self._unconfirmed.discard(job_id or "")
        return self.open.pop(job_id or "", None)
