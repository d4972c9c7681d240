"""The wait for the ends of jobs that were just sent: by Kafka, and by the ledger if it can be reached."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import select

from headrace_producers import Received
from headrace_schemas.errors import Unavailable
from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.cli.jobfile import JobEntry
from headrace_workers.cli.output import say
from headrace_workers.cli.receipts import Receipt
from headrace_workers.core.ledger.dead_letters import INGEST, letter_of
from headrace_workers.core.ledger.ingest import RecordContent
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, LIVE, STEPS

_CHUNK = 500  # ids of one query


class Jobs(Protocol):
    """The ledger's view of jobs, by their ids."""

    def accepted(self, job_ids: Collection[str]) -> set[str]:
        """Return the jobs that the ledger has accepted."""

    def ended(self, job_ids: Collection[str]) -> list[Receipt]:
        """Return the ends of the jobs that have ended."""

    def refused(self, job_ids: Collection[str], since_ms: int) -> list[Receipt]:
        """Return the dead letters of the jobs that were refused at admission since then."""

    def conflict_reasons(self, said: Sequence[RecordContent]) -> dict[int, str]:
        """Return why records that say something new about a known job are refused, by their positions."""


class LedgerJobs:
    """`Jobs` from a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def accepted(self, job_ids: Collection[str]) -> set[str]:
        """Return the jobs that the ledger has accepted."""
        found: set[str] = set()
        for chunk in _chunks(job_ids):
            found.update(row.id for row in self._ledger.read(select(JOBS.c.id).where(JOBS.c.id.in_(chunk))))
        return found

    def conflict_reasons(self, said: Sequence[RecordContent]) -> dict[int, str]:
        """Return why records that say something new about a known job are refused, by their positions."""
        return self._ledger.conflict_reasons(said)

    def queues(self, job_ids: Collection[str]) -> set[str]:
        """Return the queues in which steps of these jobs wait or run."""
        unfinished = STEPS.c.state.in_(LIVE)
        found: set[str] = set()
        for chunk in _chunks(job_ids):
            query = select(STEPS.c.queue).where(STEPS.c.job_id.in_(chunk), unfinished).distinct()
            found.update(row.queue for row in self._ledger.read(query))
        return found

    def ended(self, job_ids: Collection[str]) -> list[Receipt]:
        """Return the ends of the jobs that have ended."""
        receipts: list[Receipt] = []
        for chunk in _chunks(job_ids):
            receipts += [Receipt.decode(kind, value) for kind, value in self._ledger.terminals(chunk).values()]
        return receipts

    def refused(self, job_ids: Collection[str], since_ms: int) -> list[Receipt]:
        """Return the dead letters of the jobs that were refused at admission since then, the newest of each job."""
        found: dict[str, Receipt] = {}
        for chunk in _chunks(job_ids):
            query = (
                select(DEAD_LETTERS)
                .where(
                    DEAD_LETTERS.c.refers_to.in_(chunk),
                    DEAD_LETTERS.c.topic.not_in(ABOUT_JOBS),
                    DEAD_LETTERS.c.stage == INGEST,
                    DEAD_LETTERS.c.died_at >= since_ms,
                    DEAD_LETTERS.c.replayed_at.is_(None),
                )
                .order_by(DEAD_LETTERS.c.died_at)
            )
            found |= {row.refers_to: dead_receipt(row) for row in self._ledger.read(query)}
        return list(found.values())


def dead_receipt(row: Any) -> Receipt:
    """Return the receipt of a dead letter in the ledger, as it was published."""
    return Receipt(letter_of(row))


def _chunks(job_ids: Collection[str]) -> Iterator[list[str]]:
    ids = list(job_ids)
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


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
    then called with the ids of the known jobs, so that it can report what delays them. For `taken` jobs the ledger
    holds other content under the same key, so an answer with such an id belongs to another request.
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
        taken: Collection[str] = (),
    ) -> None:
        self._taken = frozenset(taken)
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
                is_anothers = receipt.answered and receipt.job_id in self._taken
                if not is_anothers and (entry := self._close(receipt.job_id)):
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
        receipts: list[Receipt] = []
        if jobs is None:
            return receipts
        try:
            receipts += self._sort_out(jobs)
            for receipt in jobs.ended(set(self.open) - self._unconfirmed - self._taken):
                if entry := self._close(receipt.job_id):
                    receipts.append(replace(receipt, line=entry.line))
            if again:
                self._tell_unknown()
                self._send_again()
                if self._look is not None:
                    self._look(job_id for job_id in self.open if job_id not in self._unconfirmed)
        except Unavailable as error:
            say(f"waiting: {error}")
        return receipts

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
