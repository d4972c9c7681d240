"""Look-ups of many jobs in the ledger, in chunks. The answers are receipts."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from sqlalchemy import select

from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.cli.receipt_lines import Receipt
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
        found: list[Receipt] = []
        for chunk in _chunks(job_ids):
            found += [Receipt.decode(kind, value) for kind, value in self._ledger.terminals(chunk).values()]
        return found

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
