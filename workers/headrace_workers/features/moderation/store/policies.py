"""The moderation policies that workers use. A change, or a refusal, is one event, however many workers see it."""

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection, delete, select

from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_workers.core.identity import policy_event_id
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.sql.database import alone, clock
from headrace_workers.core.sql.store import LedgerStore, durable
from headrace_workers.features.moderation.tables import POLICIES

KEY: Final = "policies"  # of all of these events: they come in the order in which they happened


def note(connection: Connection, versions: Mapping[str, str], refused: str | None, *, switched: bool) -> int:
    """Record the policies that a worker uses, publish an event for each change, and return how many events there are.

    `versions` are by tenant; "" stands for all tenants without a policy of their own. `switched` says that the worker
    used other versions before. `refused` is the reason why the policy file as it is now cannot be used. The first
    policy of a ledger is no change.
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
        new = [{"tenant": name, "version": each, "refused": texts.get(name)} for name, each in after.items()]
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
    for place, event in enumerate(events):
        yield outgoing(
            event, event_id=policy_event_id(now, place, event.version), job_id=None, traceparent=None,
            correlationid=None, at_ms=now, key=KEY,
        )  # fmt: skip
