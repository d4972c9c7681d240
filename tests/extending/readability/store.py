"""The readability of answers in the ledger."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, select

from headrace_workers.core.ledger.outcome import Row
from headrace_workers.core.sql.database import among
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.features.readability.events import ReadabilityMeasured
from headrace_workers.features.readability.tables import READABILITY
from headrace_workers.features.readability.views import Readability

TABLES: Final = (READABILITY,)
_COLUMNS: Final = (READABILITY.c.job_id, READABILITY.c.sentences, READABILITY.c.long_sentences)


def row_of(measured: ReadabilityMeasured) -> Row:
    """Return the row that is written in the transaction that completes the step."""
    return Row(READABILITY, measured.model_dump(include={"job_id", "tenant", "sentences", "long_sentences"}))


def find(connection: Connection, job_id: str, tenant: str) -> Readability | None:
    """Return the readability of a job of this tenant; None where it was not measured."""
    query = select(*_COLUMNS).where(READABILITY.c.job_id == job_id, READABILITY.c.tenant == tenant)
    row = connection.execute(query).mappings().first()
    return None if row is None else Readability(**row)


def hardest(connection: Connection, tenant: str, limit: int) -> list[Readability]:
    """Return so many answers of a tenant at most, those with the most long sentences first."""
    query = select(*_COLUMNS).where(READABILITY.c.tenant == tenant)
    order = query.order_by(READABILITY.c.long_sentences.desc(), READABILITY.c.job_id)
    return [Readability(**row) for row in connection.execute(order.limit(limit)).mappings()]


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the rows of jobs that are about to be forgotten."""
    connection.execute(delete(READABILITY).where(among(connection, READABILITY.c.job_id, job_ids)))


class ReadabilityStore(LedgerStore):
    """The readability of answers in one ledger. Thread-safe. Unavailable when the database does not answer."""

    find = reads(find)
    hardest = reads(hardest)
