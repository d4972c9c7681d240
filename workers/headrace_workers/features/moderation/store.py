"""Moderation in the ledger: the policies that workers use, and the verdicts of jobs that ended."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, Row, Select, delete, func, select, tuple_

from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_workers.core.identity import policy_event_id
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.sql.database import alone, clock, reading
from headrace_workers.core.sql.paging import by_pages
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import JOBS
from headrace_workers.features.moderation.tables import POLICIES

KEY: Final = "policies"  # of all of these events: they come in the order in which they happened
_RESULT: Final = "headrace.result.v1"
PAGE: Final = 500  # rows with texts that are in memory at once


def note(connection: Connection, versions: Mapping[str, str], refused: str | None, *, switched: bool) -> int:
    """Record the policies that a worker uses (`versions` by tenant, "" for all others), publish an event for each
    change, and return how many. `refused` is the reason why the policy file cannot be used.
    """
    alone(connection, KEY)
    rows = connection.execute(select(POLICIES)).all()
    before = {row.tenant: row.version for row in rows}
    known = next((row.refused for row in rows if row.tenant == ""), None)
    after = dict(versions) if switched or not before else before
    events: list[PolicySwitched | PolicyRefused] = [*_switches(before, after)]
    if refused is not None and refused != known:
        events.append(PolicyRefused(version=versions[""], reason=refused[:MAX_SHORT_TEXT]))
    if (after, refused) != (before, known):
        connection.execute(delete(POLICIES))
        texts = {"": refused}
        new = [{"tenant": name, "version": item, "refused": texts.get(name)} for name, item in after.items()]
        connection.execute(POLICIES.insert(), new)
    put(connection, _records(events, clock(connection)))
    return len(events)


class Policies(LedgerStore):
    """The policies of one ledger's workers. Thread-safe. Unavailable when it does not answer."""

    note = durable(note)


def _switches(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[PolicySwitched]:
    """Yield a change for each tenant whose policy is another now. A tenant without its own has that of all."""
    for tenant in sorted(before.keys() | after.keys()) if before else ():
        old, new = before.get(tenant, before[""]), after.get(tenant, after[""])
        if old != new:
            yield PolicySwitched(tenant=tenant or None, before=old, version=new)


def _records(events: list[PolicySwitched | PolicyRefused], now: int) -> Iterator[Outgoing]:
    for index, event in enumerate(events):
        yield outgoing(
            event, event_id=policy_event_id(now, index, event.version), job_id=None, traceparent=None,
            correlationid=None, at_ms=now, key=KEY,
        )  # fmt: skip


class VerdictRow(NamedTuple):
    """A verdict: when its job ended (ms), what was done, and of each category looked for whether it was objected to."""

    ended_at: int
    action: str
    categories: dict[str, bool]


class Span(NamedTuple):
    """The jobs that ended from `since` up to `until` (ms), of one tenant or of all."""

    since: int
    until: int
    tenant: str | None = None


def verdict_rows(connection: Connection, span: Span, limit: int) -> list[VerdictRow]:
    """Return the verdicts of jobs that ended in this span, the newest first, of so many jobs at most."""
    ends = _of(select(JOBS.c.ended_at, JOBS.c.id, JOBS.c.terminal), span)
    found = []
    for job in by_pages(connection, ends, [JOBS.c.ended_at, JOBS.c.id], limit, newest=True):
        verdict = from_json(bytes(job.terminal)).get("moderation")
        if verdict is not None:
            found.append(VerdictRow(job.ended_at, verdict["action"], verdict.get("categories", {})))
    return found


def page(connection: Connection, span: Span, kind: str, before: tuple[int, str] | None, size: int) -> list[Row[Any]]:
    """Return the newest ends of jobs of a kind, or those `before` an end (ended_at, id): ended_at (ms), id, tenant,
    payload, terminal.
    """
    columns = (JOBS.c.ended_at, JOBS.c.id, JOBS.c.tenant, JOBS.c.payload, JOBS.c.terminal)
    ends = _of(select(*columns), span).where(JOBS.c.kind == kind)
    if before is not None:
        ends = ends.where(tuple_(JOBS.c.ended_at, JOBS.c.id) < before)
    return [*connection.execute(ends.order_by(JOBS.c.ended_at.desc(), JOBS.c.id.desc()).limit(size))]


def count_ended(connection: Connection, span: Span, kind: str) -> int:
    """Return how many jobs of a kind ended in this span."""
    number: int = connection.execute(_of(select(func.count()), span).where(JOBS.c.kind == kind)).scalar_one()
    return number


class ModeratedJobs(LedgerStore):
    """The jobs of one ledger that ended with what moderation said. Thread-safe. Unavailable when it does not answer."""

    verdicts = reads(verdict_rows)
    count = reads(count_ended)

    def ended(self, span: Span, kind: str, limit: int) -> Iterator[Row[Any]]:
        """Yield the ends of so many jobs of a kind, the newest first: ended_at (ms), id, tenant, payload, terminal. A
        page at a time, each in a transaction of its own: the caller may take long.
        """
        before: tuple[int, str] | None = None
        while limit > 0:
            with reading(self._engine) as tx:
                rows = page(tx, span, kind, before, min(limit, PAGE))
            yield from rows
            if len(rows) < min(limit, PAGE):
                return
            before, limit = (rows[-1].ended_at, rows[-1].id), limit - len(rows)


def _of(query: Select[Any], span: Span) -> Select[Any]:
    ends = query.where(
        JOBS.c.ended_at >= span.since,
        JOBS.c.ended_at < span.until,
        JOBS.c.terminal_type == _RESULT,
        JOBS.c.subject.is_(None),
    )
    return ends if span.tenant is None else ends.where(JOBS.c.tenant == span.tenant)
