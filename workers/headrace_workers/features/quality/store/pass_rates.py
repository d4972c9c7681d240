"""Pass rates by tenant and criterion, as last computed. Each method is one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select

from headrace_workers.core.sql.database import clock, reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import reads
from headrace_workers.features.quality.tables import RATES

MOST: Final = 1_000  # that are shown
_MOST_OF_A_TENANT: Final = 100


@dataclass(frozen=True, slots=True)
class PassRate:
    """The mean verdict of people by a criterion, with its confidence interval at `level`."""

    criterion: str
    version: str
    value: float
    low: float
    high: float
    level: float
    labels: int
    verdicts: int
    reason: str | None = None


def rates(connection: Connection) -> list[Row[Any]]:
    """Return the pass rates of all tenants, a bounded number."""
    order = (RATES.c.tenant, RATES.c.criterion, RATES.c.version)
    return list(connection.execute(select(RATES).order_by(*order).limit(MOST)).all())


class PassRates(LedgerStore):
    """The pass rates of one ledger. Thread-safe. Unavailable when it does not answer."""

    def put(self, tenant: str, rates: Sequence[PassRate]) -> None:
        """Replace the pass rates of a tenant."""
        with writing(self._engine) as tx:
            now = clock(tx)
            tx.execute(delete(RATES).where(RATES.c.tenant == tenant))
            rows = [{"tenant": tenant, "computed_at": now, **asdict(rate)} for rate in rates[:_MOST_OF_A_TENANT]]
            if rows:
                tx.execute(RATES.insert(), rows)

    all = reads(rates)

    def tenants(self) -> list[str]:
        """Return the tenants that have pass rates."""
        with reading(self._engine) as tx:
            return list(tx.execute(select(RATES.c.tenant).distinct()).scalars())
