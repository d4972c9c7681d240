"""The end of answers: evicted, purged, recalled because they were wrong, and forgotten, a bounded number a
transaction.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select

from headrace_workers.core.sql.database import among, locks_rows, now_ms
from headrace_workers.core.sql.paging import AT_ONCE, delete_some, lock_some
from headrace_workers.core.tables import CLAIMS, JOBS
from headrace_workers.features.cache.store import audit_rows, entries
from headrace_workers.features.cache.tables import AUDITS, ENTRIES, IS_LIVE, SERVES, USES
from headrace_workers.features.knowledge.store import documents

EVICTED_AT_ONCE: Final = 500
COMPARED: Final = 4 * EVICTED_AT_ONCE
_YOUNG_MS: Final = 3_600_000  # what was just made has had no time to be of use


def evict(connection: Connection, most: int) -> int:
    """Put away a bounded number of answers of the tenant that keeps the most over `most`; return how many."""
    kept = func.count()
    over = select(ENTRIES.c.tenant, kept.label("kept")).where(IS_LIVE).group_by(ENTRIES.c.tenant).having(kept > most)
    row = connection.execute(over.order_by(kept.desc()).limit(1)).first()
    if row is None:
        return 0
    least = _least(connection, _some(connection, row.tenant), min(row.kept - most, EVICTED_AT_ONCE))
    return entries.kill(connection, least, f"its tenant keeps more than {most:,} answers")


def _some(connection: Connection, tenant: str) -> list[int]:
    """Return answers of a tenant, in the order of their ids from a random one on, and then from the first."""
    theirs = (IS_LIVE, ENTRIES.c.tenant == tenant)
    last = connection.execute(select(func.max(ENTRIES.c.id)).where(*theirs)).scalar_one()
    place = random.randint(0, last)
    query = select(ENTRIES.c.id).where(*theirs).order_by(ENTRIES.c.id).limit(COMPARED)
    behind = list(connection.execute(query.where(ENTRIES.c.id >= place)).scalars())
    return [*behind, *connection.execute(query.where(ENTRIES.c.id < place)).scalars()][:COMPARED]


def _least(connection: Connection, ids: list[int], wanted: int) -> list[int]:
    """Return the least valuable of these; of equals, the oldest."""
    given = select(func.count()).where(SERVES.c.entry_id == ENTRIES.c.id).scalar_subquery()
    worth: Any = (1 + given) * (1.0 + ENTRIES.c.saved_ms) / (now_ms() - ENTRIES.c.made_at + _YOUNG_MS)
    query = select(ENTRIES.c.id).where(IS_LIVE, among(connection, ENTRIES.c.id, ids))
    least = sorted(connection.execute(query.order_by(worth, ENTRIES.c.made_at, ENTRIES.c.id).limit(wanted)).scalars())
    if locks_rows(connection):  # in the order of their ids: see entries.py
        locked = select(ENTRIES.c.id).where(among(connection, ENTRIES.c.id, least)).order_by(ENTRIES.c.id)
        connection.execute(locked.with_for_update())
    return least


_SERVES_MS: Final = 90 * 86_400_000  # a wrong answer is traced further back than jobs are remembered
EXACT: Final = "exact"  # in the place of a scope: answers that only the very same request is given


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Filter of kept answers. An absent condition holds for all.

    `scope` is the beginning of a scope, or `EXACT`. `knowledge` and `document` name the base and the document that an
    answer rests on. `made_before` is in ms since 1970.
    """

    made_before: int
    tenant: str | None = None
    scope: str | None = None
    knowledge: str | None = None
    document: str | None = None
    ids: tuple[int, ...] | None = None


def count(connection: Connection, wanted: EntryFilter) -> int:
    """Return how many answers `purge` would put away."""
    query = select(func.count()).select_from(ENTRIES).where(*_conditions(connection, wanted))
    return int(connection.execute(query).scalar_one())


def purge(connection: Connection, wanted: EntryFilter, after: int, reason: str) -> tuple[int, int | None]:
    """Put away the first of these with ids above `after`; return how many, and the next call's `after`, if any."""
    query = (
        select(ENTRIES.c.id)
        .where(*_conditions(connection, wanted), ENTRIES.c.id > after)
        .order_by(ENTRIES.c.id)
        .limit(AT_ONCE)
    )
    entry_ids = list(connection.execute(query.with_for_update()).scalars())
    audit_rows.forget(connection, entry_ids)
    return entries.kill(connection, entry_ids, reason), entry_ids[-1] if len(entry_ids) == AT_ONCE else None


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of answers that died so long ago, of old servings, and of old audits.

    Return True if there may be more.
    """
    dead = lock_some(connection, ENTRIES.c.id, ENTRIES.c.died_at < now_ms() - older_than_ms)
    if dead:
        connection.execute(delete(USES).where(among(connection, USES.c.entry_id, dead)))
        connection.execute(delete(ENTRIES).where(among(connection, ENTRIES.c.id, dead)))
    before = now_ms() - max(older_than_ms, _SERVES_MS)
    more = delete_some(connection, SERVES.c.id, SERVES.c.served_at < before)
    more |= delete_some(connection, AUDITS.c.id, AUDITS.c.served_at < before)
    return more or len(dead) == AT_ONCE


def _conditions(connection: Connection, wanted: EntryFilter) -> list[Any]:
    conditions: list[ColumnElement[bool] | Any] = [IS_LIVE, ENTRIES.c.made_at < wanted.made_before]
    if wanted.tenant is not None:
        conditions.append(ENTRIES.c.tenant == wanted.tenant)
    if wanted.scope is not None:
        scope = ENTRIES.c.scope
        conditions.append(scope == "" if wanted.scope == EXACT else scope.startswith(wanted.scope, autoescape=True))
    if wanted.knowledge is not None or wanted.document is not None:
        named = documents.ids_of(wanted.knowledge, wanted.document)
        conditions.append(ENTRIES.c.id.in_(select(USES.c.entry_id).where(USES.c.document_id.in_(named))))
    if wanted.ids is not None:
        conditions.append(among(connection, ENTRIES.c.id, list(wanted.ids)))
    return conditions


GONE: Final = "gone"  # the state of an answer, or of a job, that the ledger has forgotten
_STAGES = ("recall", "decide")  # those that look answers up


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOf:
    """An answer that a job made or was given. For a forgotten answer, only the fields that were noted when it was given
    are known.
    """

    entry_id: int
    state: str  # pending | live | dead | GONE
    tenant: str
    scope: str
    first_job: str
    served: int  # how often it was given
    made_at: int | None = None
    expires_at: int | None = None
    reason: str | None = None  # why it died


@dataclass(frozen=True, slots=True)
class Recalled:
    """The outcome of recalling answers.

    `looking_up` are the claims of groups that were looking answers up at that moment: until they end, one of them may
    still be about to say that it gave such an answer, because it read it just before.
    """

    killed: int
    withdrawn: int
    looking_up: tuple[int, ...] = ()


def answers_of(connection: Connection, job_id: str) -> list[AnswerOf]:
    """The answers that this job made, and the answers that it was given, in the order of their ids."""
    made = connection.execute(select(ENTRIES.c.id).where(ENTRIES.c.job_id == job_id)).scalars()
    given = connection.execute(select(SERVES.c.entry_id).where(SERVES.c.job_id == job_id)).scalars()
    ids = sorted({*made, *given})
    if not ids:
        # Its answer may be forgotten while it is still known whom that was given to. No index leads there: it is rare.
        ids = sorted(
            connection.execute(select(SERVES.c.entry_id).where(SERVES.c.first_job == job_id).distinct()).scalars()
        )
    return _answers(connection, ids)


def recall(connection: Connection, entry_ids: Sequence[int], reason: str) -> Recalled:
    """Give these no more, from this transaction on; who waits for one that is being made runs by itself."""
    query = select(ENTRIES.c.id, ENTRIES.c.state).where(among(connection, ENTRIES.c.id, sorted(entry_ids)))
    query = query.order_by(ENTRIES.c.id)
    held = connection.execute(query.with_for_update()).all()
    pending = [entry.id for entry in held if entry.state == "pending"]
    for entry_id in pending:
        entries.Withdraw(entry_id).write(connection)
    killed = entries.kill(connection, entry_ids, reason)
    audit_rows.forget(connection, entry_ids)
    began = select(CLAIMS.c.id).where(CLAIMS.c.stage.in_(_STAGES), CLAIMS.c.started_at.is_not(None))
    return Recalled(killed, len(pending), tuple(connection.execute(began).scalars()))


def disown(connection: Connection, job_ids: Sequence[str], reason: str) -> int:
    """Give the answers that these jobs made, or were given, no more, from this transaction on; how many lived."""
    if not job_ids:
        return 0
    made = select(ENTRIES.c.id).where(among(connection, ENTRIES.c.job_id, job_ids))
    given = select(SERVES.c.entry_id).where(among(connection, SERVES.c.job_id, job_ids))
    ids = {*connection.execute(made).scalars(), *connection.execute(given).scalars()}
    return entries.kill(connection, sorted(ids), reason)


def running(connection: Connection, claim_ids: Sequence[int]) -> frozenset[int]:
    """Return the claims among these that have not ended."""
    if not claim_ids:
        return frozenset()
    return frozenset(connection.execute(select(CLAIMS.c.id).where(among(connection, CLAIMS.c.id, claim_ids))).scalars())


def served(connection: Connection, entry_ids: Collection[int], after: int, limit: int) -> list[Row[Any]]:
    """Return the serves of these answers, in the order in which they were noted, from the id `after` on.

    id, job_id, entry_id, tenant, scope, tier, similarity, first_job, saved_tokens, saved_ms, served_at, and `state` of
    the job: None where the ledger has forgotten it.
    """
    query = (
        select(*SERVES.c, JOBS.c.state)
        .outerjoin(JOBS, JOBS.c.id == SERVES.c.job_id)
        .where(among(connection, SERVES.c.entry_id, sorted(entry_ids)), SERVES.c.id > after)
        .order_by(SERVES.c.id)
        .limit(limit)
    )
    return list(connection.execute(query))


def given(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Return the answers that this job was given, the latest first, in the columns of `served` without the state."""
    query = select(SERVES).where(SERVES.c.job_id == job_id).order_by(SERVES.c.id.desc())
    return list(connection.execute(query))


def to_ask_again(connection: Connection, job_ids: Sequence[str]) -> dict[str, Any]:
    """Return the requests of the known jobs among these: id, tenant, kind, state, payload, correlationid; by id."""
    columns = (JOBS.c.id, JOBS.c.tenant, JOBS.c.kind, JOBS.c.state, JOBS.c.payload, JOBS.c.correlationid)
    query = select(*columns).where(among(connection, JOBS.c.id, job_ids))
    return {row.id: row for row in connection.execute(query)}


def _answers(connection: Connection, ids: Sequence[int]) -> list[AnswerOf]:
    if not ids:
        return []
    there = {row.id: row for row in connection.execute(select(*_KNOWN).where(among(connection, ENTRIES.c.id, ids)))}
    noted = {
        row.entry_id: row
        for row in connection.execute(
            select(
                SERVES.c.entry_id, func.count().label("times"), func.min(SERVES.c.tenant).label("tenant"),
                func.min(SERVES.c.scope).label("scope"), func.min(SERVES.c.first_job).label("first_job"),
            )
            .where(among(connection, SERVES.c.entry_id, ids))
            .group_by(SERVES.c.entry_id)
        )
    }  # fmt: skip
    return [_answer(entry_id, there.get(entry_id), noted.get(entry_id)) for entry_id in ids]


_KNOWN = (
    ENTRIES.c.id, ENTRIES.c.state, ENTRIES.c.tenant, ENTRIES.c.scope, ENTRIES.c.job_id, ENTRIES.c.made_at,
    ENTRIES.c.expires_at, ENTRIES.c.reason,
)  # fmt: skip


def _answer(entry_id: int, row: Any, noted: Any) -> AnswerOf:
    times = noted.times if noted is not None else 0
    if row is None:
        return AnswerOf(
            entry_id=entry_id, state=GONE, tenant=noted.tenant, scope=noted.scope, first_job=noted.first_job,
            served=times,
        )  # fmt: skip
    return AnswerOf(
        entry_id=entry_id, state=row.state, tenant=row.tenant, scope=row.scope, first_job=row.job_id, served=times,
        made_at=row.made_at, expires_at=row.expires_at, reason=row.reason,
    )  # fmt: skip
