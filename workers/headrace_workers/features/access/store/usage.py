"""What tenants have used: tokens by day, kind and model, counted once from the ends of jobs, behind the hot path.

The features that count results, too, are told of them in the same transaction (`Hooks.on_results`).

Jobs are counted in the order of their ends, up to a time that lies far enough back: who ends a job has written it by
then. The time up to which all is counted is kept with the sums, and moves in the transaction that adds to them. (Where
the database's clock is set back, what ends in the time that comes twice is not counted the second time.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Connection, select, update

from headrace_workers.core.ledger.hooks import Accounted, hooks
from headrace_workers.core.sql.database import clock, insert
from headrace_workers.core.tables import JOBS
from headrace_workers.features.access.tables import COUNTED, USAGE

LAG_MS: Final = 120_000  # longer than any transaction may take
DAY_MS: Final = 86_400_000
_AT_ONCE = 2_000
_WHAT = "jobs"
_SUMS = ("jobs", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Used:
    """What a tenant used on a day (days since 1970, UTC). `model` is "" where no model answered."""

    day: int
    kind: str
    model: str
    jobs: int
    prompt_tokens: int
    completion_tokens: int


def count(connection: Connection, up_to: int) -> Accounted:
    """Count jobs that ended up to this time (ms), a bounded number a call."""
    until = _until(connection, lock=True)
    if up_to <= until:
        return Accounted(until)
    ends = connection.execute(
        _ends().where(JOBS.c.ended_at > until, JOBS.c.ended_at <= up_to).order_by(JOBS.c.ended_at).limit(_AT_ONCE)
    ).all()
    more = len(ends) == _AT_ONCE
    if more:  # perhaps not all of the last millisecond
        last = ends[-1].ended_at
        ends = [row for row in ends if row.ended_at < last]
        up_to = last - 1
        if not ends:
            ends, up_to = connection.execute(_ends().where(JOBS.c.ended_at == last)).all(), last
    _add(connection, ends)
    connection.execute(update(COUNTED).where(COUNTED.c.what == _WHAT).values(until=up_to))
    return Accounted(up_to, more)


def used(connection: Connection, tenant: str, first: int, last: int) -> tuple[list[Used], int]:
    """What a tenant used from one day to another (days since 1970), and until when (ms) it is counted."""
    until = _until(connection)
    query = (
        select(USAGE.c.day, USAGE.c.kind, USAGE.c.model, *(USAGE.c[name] for name in _SUMS))
        .where(USAGE.c.tenant == tenant, USAGE.c.day.between(first, last))
        .order_by(USAGE.c.day, USAGE.c.kind, USAGE.c.model)
    )
    return [Used(*row) for row in connection.execute(query)], until


def settled(connection: Connection) -> int:
    """The time (ms) up to which nobody ends jobs any more."""
    return clock(connection) - LAG_MS


def _until(connection: Connection, *, lock: bool = False) -> int:
    query = select(COUNTED.c.until).where(COUNTED.c.what == _WHAT)
    if not lock:
        return int(connection.execute(query).scalar() or 0)
    first = insert(connection, COUNTED).values(what=_WHAT, until=0)
    connection.execute(first.on_conflict_do_nothing())
    return int(connection.execute(query.with_for_update()).scalar_one())


def _ends() -> Any:
    columns = (JOBS.c.tenant, JOBS.c.ended_at, JOBS.c.terminal)
    return select(*columns).where(
        JOBS.c.ended_at.is_not(None), JOBS.c.terminal.is_not(None), JOBS.c.state == "done", JOBS.c.subject.is_(None)
    )


def _add(connection: Connection, ends: Iterable[Any]) -> None:
    sums: dict[tuple[str, int, str, str], Counter[str]] = {}
    results: list[dict[str, Any]] = []
    for row in ends:
        result: dict[str, Any] = from_json(bytes(row.terminal))
        results.append(result)
        kind, model, prompt, completion = _read(result)
        place = sums.setdefault((row.tenant, row.ended_at // DAY_MS, kind, model), Counter())
        place.update(jobs=1, prompt_tokens=prompt, completion_tokens=completion)
    if not sums:
        return
    for feature in hooks():
        feature.on_results(connection, results)
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
    """Kind, model, and tokens read and written, of a result."""
    answered: Sequence[Any] = [result.get(name) for name in ("answer", "embedding")]
    part: dict[str, Any] = next((each for each in answered if each), {})
    usage = part.get("usage") or {}
    return (
        str(result.get("kind", "")),
        str(part.get("model", "")),
        int(usage.get("prompt_tokens", 0)),
        int(usage.get("completion_tokens", 0)),
    )
