"""The endpoints of webhooks: whom a tenant has registered, how its callbacks are signed, how each stands, and who
listens to the ends of jobs.

Secrets come and go as they are kept: sealed, where the deployment has a key (features/webhooks/signing.py).
"""

import json
import secrets
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, delete, func, or_, select, update

from headrace_schemas.uuids import Namespace
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.job_ends import wake
from headrace_workers.core.sql.database import alone, among, bindparam_of, clock, insert, now_ms, one_of
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.tables import JOBS
from headrace_workers.features.webhooks.tables import (
    CALLBACKS,
    CALLBACKS_OF_JOBS,
    ENDPOINTS,
    LISTENS,
    PLACE,
    REGISTERED,
)

_COLUMNS: Final = ENDPOINTS.c.keys()
_PLACES_MS: Final = 30 * 86_400_000  # where callbacks went is known for so long after the last one
_IDS: Final = Namespace(uuid.UUID("3a4f7c52-9d0e-5f3b-8c1d-6b8e2d7f9a10"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where webhooks go. `secret` and `old_secret` are as they are kept, and belong to the endpoint `secret_of`."""

    id: str
    tenant: str
    origin: str
    name: str
    url: str
    events: tuple[str, ...]
    whole: bool
    hint: str | None
    disabled: str | None
    failures: int
    failing_since: int | None
    pauses: int
    paused_until: int | None
    created_at: int
    updated_at: int
    secret: str | None = None
    old_secret: str | None = None
    old_until: int | None = None
    secret_of: str = ""

    def __repr__(self) -> str:
        """Without its secrets."""
        return f"Endpoint(id={self.id!r}, tenant={self.tenant!r}, url={self.url!r})"

    @property
    def health(self) -> "Health":
        """Return the health of an endpoint."""
        return copied(Health, self, registered=self.origin == REGISTERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of an endpoint: failures in a row and since when, pauses in a row and until when, and why it is
    disabled.
    """

    registered: bool
    failures: int = 0
    failing_since: int | None = None
    pauses: int = 0
    paused_until: int | None = None
    disabled: str | None = None


def new_id() -> str:
    """The id of an endpoint that is to be registered."""
    return f"we_{secrets.token_hex(12)}"


def callbacks_id(tenant: str) -> str:
    """The id of a tenant's own endpoint for callbacks: its secret signs what goes to the URLs that jobs name."""
    return _IDS.id_of(f"{tenant}\ncallbacks")


def place_id(tenant: str, origin: str) -> str:
    """The id of a place (scheme, host and port) where a tenant's callbacks go."""
    return _IDS.id_of(f"{tenant}\n{origin}")


def add(
    connection: Connection,
    *,
    endpoint_id: str,
    tenant: str,
    name: str,
    url: str,
    events: Sequence[str],
    whole: bool,
    secret: str,
    hint: str,
    most: int,
) -> Endpoint | None:
    """Register a receiver; None where the tenant has so many already."""
    alone(connection, f"webhook endpoints of {tenant}")
    if count(connection, tenant) >= most:
        return None
    connection.execute(
        ENDPOINTS.insert().values(
            id=endpoint_id, tenant=tenant, origin=REGISTERED, name=name, url=url, events=json.dumps(list(events)),
            whole=whole, secret=secret, hint=hint, created_at=now_ms(), updated_at=now_ms(),
        )
    )  # fmt: skip
    return get(connection, endpoint_id)


def ensure_callbacks(connection: Connection, tenant: str, secret: str, hint: str) -> Endpoint:
    """Return the tenant's own endpoint for callbacks; make it with this secret if there is none."""
    values = _implicit(callbacks_id(tenant), tenant, CALLBACKS, "callbacks of jobs", "")
    made = insert(connection, ENDPOINTS).values({**values, "secret": secret, "hint": hint})
    connection.execute(made.on_conflict_do_nothing())
    endpoint = get(connection, callbacks_id(tenant))
    assert endpoint is not None  # noqa: S101 - it was there, or was written above
    return endpoint


def ensure_places(connection: Connection, places: Mapping[str, tuple[str, str]]) -> None:
    """Add these places of callbacks (id to tenant and origin), and record that they were used now."""
    for name, (tenant, origin) in sorted(places.items()):
        met = insert(connection, ENDPOINTS).values(_implicit(name, tenant, PLACE, origin, origin))
        connection.execute(met.on_conflict_do_update(index_elements=["id"], set_={"updated_at": now_ms()}))


def _implicit(endpoint_id: str, tenant: str, origin: str, name: str, url: str) -> dict[str, Any]:
    return {"id": endpoint_id, "tenant": tenant, "origin": origin, "name": name, "url": url, "events": "[]",
            "whole": False, "created_at": now_ms(), "updated_at": now_ms()}  # fmt: skip


def get(connection: Connection, endpoint_id: str, tenant: str | None = None) -> Endpoint | None:
    """Return an endpoint with its secrets, or None; with `tenant`, only that tenant's."""
    query = select(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)
    if tenant is not None:
        query = query.where(ENDPOINTS.c.tenant == tenant)
    row = connection.execute(query).mappings().first()
    return None if row is None else endpoint_of(row)


def unknown(connection: Connection, named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of these endpoints (tenant and id) that the tenant has not registered."""
    ids = sorted({endpoint_id for _, endpoint_id in named})
    query = select(ENDPOINTS.c.tenant, ENDPOINTS.c.id).where(ENDPOINTS.c.origin == REGISTERED)
    result = connection.execute(query.where(among(connection, ENDPOINTS.c.id, ids)))
    return set(named) - {(row.tenant, row.id) for row in result}


def for_sending(where: Connection | SingleStatements, endpoint_id: str, tenant: str) -> Endpoint | None:
    """An endpoint with what signs for it: its own secrets, or those of this tenant's callbacks."""
    callbacks = callbacks_id(tenant)
    rows = rows_of(where, _these(where.dialect.name), {"ids": [endpoint_id, callbacks]})
    named = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
    found = {row["id"]: endpoint_of(row) for row in named}
    endpoint, own = found.get(endpoint_id), found.get(callbacks)
    if endpoint is None or own is None or (endpoint.origin, endpoint.tenant) != (PLACE, tenant):
        return endpoint
    return _signed_by(endpoint, own)


@lru_cache
def _these(dialect: str) -> Select[Any]:
    ids = one_of(dialect, ENDPOINTS.c.id, bindparam_of(dialect, ENDPOINTS.c.id, name="ids"))
    return select(ENDPOINTS).where(ids)


def _signed_by(place: Endpoint, own: Endpoint) -> Endpoint:
    return replace(
        place,
        secret=own.secret,
        old_secret=own.old_secret,
        old_until=own.old_until,
        secret_of=own.id,
        disabled=place.disabled or own.disabled,
    )


def all_of(
    connection: Connection,
    tenant: str | None = None,
    limit: int = 100,
    after: str | None = None,
    *,
    origins: Sequence[str] = (REGISTERED, CALLBACKS),
) -> list[Endpoint]:
    """Return endpoints of these origins, newest first, those after `after`."""
    query = select(ENDPOINTS).order_by(ENDPOINTS.c.created_at.desc(), ENDPOINTS.c.id.desc()).limit(limit)
    query = query.where(ENDPOINTS.c.origin.in_(origins))
    if tenant is not None:
        query = query.where(ENDPOINTS.c.tenant == tenant)
    if after is not None:
        last = get(connection, after, tenant)
        if last is None:
            return []
        query = query.where(
            (ENDPOINTS.c.created_at < last.created_at)
            | ((ENDPOINTS.c.created_at == last.created_at) & (ENDPOINTS.c.id < last.id))
        )
    return [endpoint_of(row) for row in connection.execute(query).mappings()]


def change(connection: Connection, endpoint_id: str, values: Mapping[str, Any]) -> None:
    """Write these columns of an endpoint, as people want them."""
    changed = {**values, **({"events": json.dumps(list(values["events"]))} if "events" in values else {})}
    statement = update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)
    connection.execute(statement.values(**changed, updated_at=now_ms()))


def rotate(connection: Connection, endpoint_id: str, secret: str, hint: str, overlap_ms: int) -> Endpoint | None:
    """Replace an endpoint's secret, and sign with the old one, too, for `overlap_ms`. Return None if it is gone."""
    # In one statement: another who rotates at this moment is shown a secret, too, which is then the one before.
    old = {"old_secret": ENDPOINTS.c.secret, "old_until": now_ms() + overlap_ms} if overlap_ms > 0 else {
        "old_secret": None, "old_until": None}  # fmt: skip
    change(connection, endpoint_id, {"secret": secret, "hint": hint, **old})
    return get(connection, endpoint_id)


def enable(connection: Connection, endpoint_id: str) -> int:
    """Enable an endpoint as if nothing had failed, and return how many deliveries that waited for it are ready."""
    change(connection, endpoint_id, {"disabled": None, **_WELL})
    return wake(connection, [endpoint_id])


_WELL: Final[dict[str, Any]] = {"failures": 0, "failing_since": None, "pauses": 0, "paused_until": None}


def remove(connection: Connection, endpoint_id: str) -> None:
    """Remove an endpoint. Deliveries that are still to be sent to it are dropped."""
    connection.execute(delete(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id))
    wake(connection, [endpoint_id])


def judge(
    connection: Connection, endpoint_id: str, follow: Callable[[Health, int], Health], *, wake_all: bool = False
) -> tuple[Health, Health] | None:
    """Write the health that follows from what stands: what stood and what stands now; None where it is gone.

    One that is well again lets go of what waited for it; so does any with `wake_all`.
    """
    query = select(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)
    row = connection.execute(query.with_for_update()).mappings().first()
    if row is None:
        return None
    before = endpoint_of(row).health
    after = follow(before, clock(connection))
    if after != before:
        connection.execute(
            update(ENDPOINTS)
            .where(ENDPOINTS.c.id == endpoint_id)
            .values({name: value for name, value in asdict(after).items() if name != "registered"})
        )
    if wake_all or (before.paused_until is not None and after.paused_until is None):
        wake(connection, [endpoint_id])
    return before, after


def forget_places(connection: Connection, older_than_ms: int) -> bool:
    """Forget places that no callback has named for so long, 30 days at least; return False, since none is left."""
    before = now_ms() - max(older_than_ms, _PLACES_MS)
    connection.execute(delete(ENDPOINTS).where(ENDPOINTS.c.origin == PLACE, ENDPOINTS.c.updated_at < before))
    return False


def count(connection: Connection, tenant: str) -> int:
    """Return how many endpoints a tenant has registered."""
    registered = (ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.origin == REGISTERED)
    return int(connection.execute(select(func.count()).select_from(ENDPOINTS).where(registered)).scalar_one())


def endpoint_of(row: Any) -> Endpoint:
    """Return an endpoint from its row as a mapping: its fields are the columns."""
    return Endpoint(**{**row, "events": tuple(json.loads(row["events"])), "secret_of": row["id"]})


@dataclass(frozen=True, slots=True)
class Listener:
    """One that is to hear of a job: a registered endpoint with the events that it asked for."""

    endpoint_id: str
    events: tuple[str, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """The listeners to a job: `endpoints` are its tenant's, `callback` is the job's own (JSON). `kind` is the job's."""

    tenant: str
    kind: str
    endpoints: tuple[Listener, ...]
    callback: str | None


# One question for each batch of the relay, whatever is in it: mostly nobody listens at all.
_ANYBODY: Final = select(
    or_(
        select(ENDPOINTS.c.id).where(LISTENS).exists(),
        select(CALLBACKS_OF_JOBS.c.job_id).exists(),
    ).label("anybody")
)


def anybody(where: Connection | SingleStatements) -> bool:
    """Return whether anybody listens to anything."""
    ((found,),) = rows_of(where, _ANYBODY, {})
    return bool(found)


def heard(where: Connection | SingleStatements, job_ids: Sequence[str]) -> dict[str, Heard]:
    """Return those of these jobs that somebody listens to."""
    found: dict[str, Heard] = {}
    rows = rows_of(where, _heard(where.dialect.name), {"ids": list(job_ids)})
    for job_id, tenant, kind, wish, endpoint_id, events, whole in rows:
        before = found.get(job_id) or Heard(tenant, kind, (), wish)
        own = (Listener(endpoint_id, tuple(json.loads(events)), whole),) if endpoint_id else ()
        found[job_id] = Heard(tenant, kind, before.endpoints + own, wish)
    return found


@lru_cache
def _heard(dialect: str) -> Select[Any]:
    listens = and_(ENDPOINTS.c.tenant == JOBS.c.tenant, LISTENS)
    return (
        select(JOBS.c.id, JOBS.c.tenant, JOBS.c.kind, CALLBACKS_OF_JOBS.c.wish, ENDPOINTS.c.id.label("endpoint"),
               ENDPOINTS.c.events, ENDPOINTS.c.whole)
        .select_from(
            JOBS.outerjoin(CALLBACKS_OF_JOBS, CALLBACKS_OF_JOBS.c.job_id == JOBS.c.id).outerjoin(ENDPOINTS, listens)
        )
        .where(
            one_of(dialect, JOBS.c.id, bindparam_of(dialect, JOBS.c.id, name="ids")),
            or_(CALLBACKS_OF_JOBS.c.wish.is_not(None), ENDPOINTS.c.id.is_not(None)),
        )
        .order_by(ENDPOINTS.c.created_at, ENDPOINTS.c.id)
    )  # fmt: skip


def told_whole(connection: Connection, endpoint_ids: Sequence[str]) -> frozenset[str]:
    """Return those of these endpoints that are told the whole receipt."""
    query = select(ENDPOINTS.c.id).where(among(connection, ENDPOINTS.c.id, endpoint_ids), ENDPOINTS.c.whole.is_(True))
    return frozenset(connection.execute(query).scalars())


def keep_callbacks(connection: Connection, jobs: Sequence[NewJob]) -> None:
    """Keep the callbacks that came with these jobs."""
    callbacks = [(job.id, job.callback) for job in jobs if job.callback is not None]
    if callbacks:
        rows: list[dict[str, Any]] = [{"job_id": job_id, "wish": callback} for job_id, callback in sorted(callbacks)]
        connection.execute(insert(connection, CALLBACKS_OF_JOBS).on_conflict_do_nothing(), rows)
