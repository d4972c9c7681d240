"""By which moderation policies workers go: each change, and each refusal, is one event, however many workers see it."""

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection, delete, select

from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_workers.core.identity import policy_event_id
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.sql.database import alone, clock, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.moderation.tables import POLICIES

KEY: Final = "policies"  # of all of these events: they come in the order in which they happened


class Policies(LedgerStore):
    """The policies of one ledger's workers. Thread-safe. Unavailable when it does not answer."""

    def note(self, versions: Mapping[str, str], refused: str | None, *, switched: bool) -> int:
        """A worker goes by these versions, by tenant, "" being for all that have none of their own; `switched` says
        that it did not before. What its file says now may be `refused`, with the reason. How many events tell of it.

        The first policy of a ledger is no switch.
        """
        with writing(self._engine) as tx:
            return _note(tx, versions, refused, switched)


def _note(connection: Connection, versions: Mapping[str, str], refused: str | None, switched: bool) -> int:
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
        told = {"": refused}
        new = [{"tenant": name, "version": each, "refused": told.get(name)} for name, each in after.items()]
        connection.execute(POLICIES.insert(), new)
    put(connection, _records(events, clock(connection)))
    return len(events)


def _switches(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[PolicySwitched]:
    """Whose policy is another one. What holds for a tenant without one of its own is that of all."""
    for tenant in sorted(before.keys() | after.keys()) if before else ():
        old, new = before.get(tenant, before[""]), after.get(tenant, after[""])
        if old != new:
            yield PolicySwitched(tenant=tenant or None, before=old, version=new)


def _records(events: list[PolicySwitched | PolicyRefused], now: int) -> Iterator[Outgoing]:
    for place, event in enumerate(events):
        yield outgoing(
            event, event_id=policy_event_id(now, place, event.version), job_id=None, traceparent=None,
            correlationid=None, at_ms=now, key=KEY,
        )  # fmt: skip
