"""States of the cache's scopes: if the bound is shown, or broken, and if the semantic tier is off."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, case, or_, select, update

from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.features.cache.tables import STANDINGS

State = Literal["not yet shown", "shown", "off"]

NOT_YET: Final[State] = "not yet shown"
SHOWN: Final[State] = "shown"
OFF: Final[State] = "off"
_SHOWN_OF_SCOPE: Final = 8  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeStanding:
    """One scope. `figures` are the numbers of its bound, by name.

    Serves count from `since`, and the state holds since `changed_at` (both ms since 1970). `serves_by` is the person
    who let it serve before its bound was shown.
    """

    scope: str
    tenant: str
    state: State
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    since: int = 0
    changed_at: int = 0
    serves_by: str | None = None


def of(connection: Connection, scope: str) -> ScopeStanding | None:
    """Return how this scope stands; None if nothing was ever said of it."""
    row = connection.execute(select(STANDINGS).where(STANDINGS.c.scope == scope)).first()
    return None if row is None else _standing(row)


def unheard_of(scope: str, tenant: str) -> ScopeStanding:
    """Return how a scope stands that nothing was said of."""
    return ScopeStanding(scope=scope, tenant=tenant, state=NOT_YET, sentence="")


def all_of(connection: Connection, tenant: str | None = None, scope: str | None = None) -> list[ScopeStanding]:
    """Return all scopes with a state, scopes that are off first. `scope` is the beginning of a scope."""
    query = select(STANDINGS).order_by(case((STANDINGS.c.state == OFF, 0), else_=1), STANDINGS.c.scope)
    if tenant is not None:
        query = query.where(STANDINGS.c.tenant == tenant)
    if scope is not None:
        query = query.where(STANDINGS.c.scope.startswith(scope, autoescape=True))
    return [_standing(row) for row in connection.execute(query)]


def limiting(connection: Connection) -> list[Any]:
    """Return scope, state, sentence and who let it serve, of all scopes; look-ups need them."""
    columns = (STANDINGS.c.scope, STANDINGS.c.state, STANDINGS.c.sentence, STANDINGS.c.serves_by)
    return list(connection.execute(select(*columns)))


def write(connection: Connection, now: ScopeStanding) -> None:
    """Write how a scope stands; nothing where it was opened again since it was counted. One that is off stays so."""
    values = {
        "tenant": now.tenant, "state": now.state, "sentence": now.sentence[:2_000], "figures": json.dumps(now.figures),
    }  # fmt: skip
    new = insert(connection, STANDINGS).values(
        scope=now.scope, since=now.since, changed_at=now_ms(), **values
    )  # fmt: skip
    stays = STANDINGS.c.state == OFF
    changed = case((or_(stays, STANDINGS.c.state == now.state), STANDINGS.c.changed_at), else_=now_ms())
    latched = {
        "state": case((stays, STANDINGS.c.state), else_=now.state),
        "sentence": case((stays, STANDINGS.c.sentence), else_=values["sentence"]),
        "changed_at": changed,
    }
    connection.execute(
        new.on_conflict_do_update(index_elements=["scope"], set_=values | latched, where=STANDINGS.c.since == now.since)
    )


def reopen(connection: Connection, scope: str) -> bool:
    """Turn a scope's semantic tier on again, and count only from now on; return True if it was off."""
    values = {"state": NOT_YET, "sentence": "Not yet shown: it was turned on again.", "figures": "{}",
              "since": now_ms(), "changed_at": now_ms()}  # fmt: skip
    statement = update(STANDINGS).where(STANDINGS.c.scope == scope, STANDINGS.c.state == OFF).values(**values)
    return connection.execute(statement).rowcount > 0


def serve(connection: Connection, scope: str, by: str | None) -> bool:
    """Let a scope serve by likeness before its bound is shown, or no more (`by` is None); return True if that changed
    anything.
    """
    let = STANDINGS.c.serves_by.is_(None) if by is not None else STANDINGS.c.serves_by.is_not(None)
    statement = update(STANDINGS).where(STANDINGS.c.scope == scope, let).values(serves_by=by and by[:128])
    return connection.execute(statement).rowcount > 0


def incidents(connection: Connection) -> Sequence[Incident]:
    """Return what `headrace status` says of scopes that are off."""
    query = select(STANDINGS).where(STANDINGS.c.state == OFF).order_by(STANDINGS.c.changed_at, STANDINGS.c.scope)
    return [
        Incident(
            "the cache",
            f"scope {row.scope[:_SHOWN_OF_SCOPE]} of the tenant {row.tenant}",
            f"{row.sentence} `headrace cache serve {row.scope[:_SHOWN_OF_SCOPE]}` turns it on again",
            row.changed_at,
        )
        for row in connection.execute(query)
    ]


def _standing(row: Any) -> ScopeStanding:
    return copied(ScopeStanding, row, figures=json.loads(row.figures))
