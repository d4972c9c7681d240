"""Usage of tenants: tokens by day, kind and model, counted once from the results of jobs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from headrace_workers.core.ledger.accounting import FinishedJob, accounted_until
from headrace_workers.core.sql.database import insert
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.features.spend.tables import USAGE

DAY_MS: Final = 86_400_000
_SUMS = ("jobs", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Used:
    """The usage of a tenant on a day (days since 1970, UTC). `model` is "" where no model answered."""

    day: int
    kind: str
    model: str
    jobs: int
    prompt_tokens: int
    completion_tokens: int


def used(connection: Connection, tenant: str, first: int, last: int) -> tuple[list[Used], int]:
    """Return what a tenant used from one day to another (days since 1970), and until when (ms) it is counted."""
    query = (
        select(USAGE.c.day, USAGE.c.kind, USAGE.c.model, *(USAGE.c[name] for name in _SUMS))
        .where(USAGE.c.tenant == tenant, USAGE.c.day.between(first, last))
        .order_by(USAGE.c.day, USAGE.c.kind, USAGE.c.model)
    )
    until = accounted_until(connection)
    return [Used(*row) for row in connection.execute(query)], until


def tenants(connection: Connection, limit: int) -> list[str]:
    """Return so many tenants at most that have used something."""
    return list(connection.execute(select(USAGE.c.tenant).distinct().limit(limit)).scalars())


class Usage(LedgerStore):
    """The usage of the tenants of one ledger. Thread-safe. Methods raise Unavailable if it does not answer."""

    of_tenant = reads(used)


def count(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Add what these jobs used, which have ended, to the sums of their days."""
    sums: dict[tuple[str, int, str, str], Counter[str]] = {}
    for job in jobs:
        kind, model, prompt, completion = _read(job.result)
        place = sums.setdefault((job.tenant, job.ended_at // DAY_MS, kind, model), Counter())
        place.update(jobs=1, prompt_tokens=prompt, completion_tokens=completion)
    keys = ("tenant", "day", "kind", "model")
    statement = insert(connection, USAGE)
    statement = statement.on_conflict_do_update(
        index_elements=list(keys), set_={name: USAGE.c[name] + statement.excluded[name] for name in _SUMS}
    )
    connection.execute(
        statement,
        [dict(zip(keys, key, strict=True)) | {name: sums[key][name] for name in _SUMS} for key in sorted(sums)],
    )


def _read(result: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Return kind, model, and tokens read and written, of a result."""
    answered: Sequence[Any] = [result.get(name) for name in ("answer", "embedding")]
    part: dict[str, Any] = next((each for each in answered if each), {})
    usage = part.get("usage") or {}
    return (
        str(result.get("kind", "")),
        str(part.get("model", "")),
        int(usage.get("prompt_tokens", 0)),
        int(usage.get("completion_tokens", 0)),
    )
