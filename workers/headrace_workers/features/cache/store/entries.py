"""Answers that may be given again: who makes one, when it may be served, the documents that it rests on, and its end.

Lock order: documents, in the order of their ids; then entries, after claims, jobs and steps, in the order of their ids.
A waiting job is woken only if its row is not locked. The transaction that admits an answer holds its documents until
the answer is written. So a change of one of them comes before that, and is seen; or it comes after, and finds the
answer.
"""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)

from headrace_workers.core.fields import columns
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.job_ends import wake
from headrace_workers.core.sql.database import among, bindparam_of, insert, now_ms, one_of
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.tables import JOBS, NEVER
from headrace_workers.features.cache.tables import ENTRIES, ENTRY, IS_LIVE, IS_PENDING, SERVES, USES
from headrace_workers.features.knowledge.store import documents
from headrace_workers.features.knowledge.store.documents import Version


def hold_documents(connection: Connection, used: Iterable[Version]) -> set[Version]:
    """Let none of these documents change until this transaction ends; return what they are now."""
    return documents.hold(connection, {document_id for document_id, _ in used})


def documents_unchanged(connection: Connection, used: Collection[Version]) -> bool:
    """Return True if all these documents are as they were, and let none change until this transaction ends."""
    return hold_documents(connection, used) >= set(used)


def write_uses(connection: Connection, entry_id: int, used: Collection[Version]) -> None:
    """Write what an answer rests on."""
    if used:
        rows = [
            {"entry_id": entry_id, "document_id": document_id, "sha256": version} for document_id, version in set(used)
        ]
        connection.execute(USES.insert(), rows)


def uses_of(connection: Connection, entry_ids: Sequence[int]) -> dict[int, set[Version]]:
    """Return what each of these answers rests on; answers that rest on nothing are left out."""
    uses: dict[int, set[Version]] = {}
    for row in connection.execute(select(USES).where(among(connection, USES.c.entry_id, sorted(entry_ids)))):
        uses.setdefault(row.entry_id, set()).add((row.document_id, row.sha256))
    return uses


def resting_on(connection: Connection, document_ids: Sequence[int], but: str | None, limit: int) -> list[Row[Any]]:
    """Return, and lock, live answers that rest on these documents in another version than `but`: entry_id and
    document_id, in order of the entries.
    """
    query = (
        select(USES.c.entry_id, USES.c.document_id)
        .join(ENTRIES, ENTRIES.c.id == USES.c.entry_id)
        .where(IS_LIVE, among(connection, USES.c.document_id, document_ids))
        .order_by(USES.c.entry_id)
        .limit(limit)
    )
    if but is not None:
        query = query.where(USES.c.sha256 != but)
    return list(connection.execute(query.with_for_update(of=ENTRIES)))


_JITTER = 0.1  # of a time to live: entries that were made together do not end together
AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An answer that a job is to make. `question` and `vector` are given where likeness may find it, and `normalised`
    where its normalised question may.
    """

    scope: str
    key: str
    tenant: str
    job_id: str
    lane: int
    normalised: str | None = None
    question: str | None = None
    vector: bytes | None = None


class EntryKeys(NamedTuple):
    """The keys and the scope under which a request is looked up."""

    key: str
    scope: str
    normalised: str | None = None


class Leader(NamedTuple):
    """The job that makes the answer to a request now."""

    entry_id: int
    job_id: str
    lane: int


class Entry(NamedTuple):
    """An answer that may be served. `age_ms` is by the database's clock."""

    id: int
    key: str
    scope: str
    job_id: str
    question: str | None
    answer: bytes
    saved_ms: float
    age_ms: int
    asked_at: int  # when its maker looked for what it rests on, in ms of the database's clock
    normalised: str | None


@lru_cache
def _servable(dialect: str, column: str, *, alone: bool) -> Select[Any]:
    """Live entries by one of their columns, as `Entry` has them.

    One that is asked for `alone` is no array: PostgreSQL keeps the plan of that, and makes one for an array each time,
    which takes longer than to find the row.
    """
    by = ENTRIES.c[column]
    one = bindparam("wanted", type_=by.type, required=True)
    return select(
        ENTRIES.c.id,
        ENTRIES.c.key,
        ENTRIES.c.scope,
        ENTRIES.c.job_id,
        ENTRIES.c.question,
        ENTRIES.c.answer,
        ENTRIES.c.saved_ms,
        now_ms() - ENTRIES.c.made_at,
        func.coalesce(ENTRIES.c.asked_at, ENTRIES.c.made_at),
        ENTRIES.c.normalised,
    ).where(
        IS_LIVE,
        by == one if alone else one_of(dialect, by, bindparam_of(dialect, by, name="wanted")),
        ENTRIES.c.expires_at > now_ms(),
    )


def exact(where: Connection | SingleStatements, keys: Collection[str]) -> dict[str, Entry]:
    """Return the live answers to these very requests, by key."""
    return {entry.key: entry for entry in _serve(where, "key", keys)}


def alike_but_for_form(where: Connection | SingleStatements, keys: Collection[str]) -> dict[str, Entry]:
    """Return the live answers to questions with these normalised forms, by the key of the form: the latest of each."""
    alike = sorted(_serve(where, "normalised", keys), key=lambda entry: entry.id)
    return {entry.normalised: entry for entry in alike if entry.normalised is not None}


def living(where: Connection | SingleStatements, entry_ids: Collection[int]) -> dict[int, Entry]:
    """Return the entries among these that may still be served, by id."""
    return {entry.id: entry for entry in _serve(where, "id", entry_ids)}


def in_the_making(connection: Connection, entry_ids: Collection[int]) -> dict[int, Leader]:
    """Return the leaders of the entries among these that are being made now, by id."""
    if not entry_ids:
        return {}
    query = select(ENTRIES.c.id, ENTRIES.c.job_id, ENTRIES.c.lane)
    rows = connection.execute(query.where(IS_PENDING, among(connection, ENTRIES.c.id, sorted(entry_ids))))
    return {row.id: Leader(row.id, row.job_id, row.lane) for row in rows}


def alike_in_the_making(connection: Connection, keys: Collection[str]) -> dict[str, list[Leader]]:
    """Return the leaders of questions with these normalised forms, by the key of the form, oldest first."""
    if not keys:
        return {}
    query = select(ENTRIES.c.normalised, ENTRIES.c.id, ENTRIES.c.job_id, ENTRIES.c.lane).order_by(ENTRIES.c.id)
    leaders: dict[str, list[Leader]] = {}
    for row in connection.execute(query.where(IS_PENDING, among(connection, ENTRIES.c.normalised, sorted(keys)))):
        leaders.setdefault(row.normalised, []).append(Leader(row.id, row.job_id, row.lane))
    return leaders


def _serve(where: Connection | SingleStatements, column: str, wanted: Collection[Any]) -> list[Entry]:
    if not wanted:
        return []
    alone = len(wanted) == 1
    statement = _servable(where.dialect.name, column, alone=alone)
    rows = rows_of(where, statement, {"wanted": next(iter(wanted)) if alone else list(wanted)})
    return [Entry._make(row) for row in rows]


class Led(NamedTuple):
    """The leader of each request, and the answers that became available since the look-up, by key."""

    leaders: dict[str, Leader]
    live: dict[str, Entry]


def lead(connection: Connection, wanted: Sequence[NewEntry], passed: Collection[int] = ()) -> Led:
    """Let the first job that asks for a request make its answer.

    If a live answer has come since the caller looked, return it instead, unless it is one of `passed`, which the caller
    did not want.
    """
    if not wanted:
        return Led({}, {})
    first = {entry.key: entry for entry in reversed(wanted)}
    keys = sorted(first)  # in one order, so that two groups do not wait for each other
    made = {key: entry_id for key in keys if (entry_id := _insert(connection, first[key])) is not None}
    live = {key: entry for key, entry in exact(connection, keys).items() if entry.id not in passed}
    needless = [made[key] for key in live if key in made]
    if needless:
        connection.execute(delete(ENTRIES).where(among(connection, ENTRIES.c.id, needless)))
    findable = [made[key] for key in keys if key in made and key not in live and first[key].vector is not None]
    change_feed.note(connection, findable, ENTRY)
    query = select(ENTRIES.c.key, ENTRIES.c.id, ENTRIES.c.job_id, ENTRIES.c.lane)
    rows = connection.execute(query.where(IS_PENDING, among(connection, ENTRIES.c.key, keys)))
    return Led({row.key: Leader(row.id, row.job_id, row.lane) for row in rows}, live)


def _insert(connection: Connection, entry: NewEntry) -> int | None:
    """The id of a new pending entry; None where there is one for this request."""
    return connection.execute(
        insert(connection, ENTRIES)
        .values(columns(ENTRIES, entry, state="pending", made_at=now_ms(), asked_at=now_ms(), expires_at=NEVER))
        .on_conflict_do_nothing()
        .returning(ENTRIES.c.id)
    ).scalar()


@dataclass(frozen=True, slots=True)
class Admit:
    """Moderation has allowed the answer of a pending entry: it is live from this transaction on, in the place of an
    older one to the same request. Waiting jobs are woken. An answer of a later model of the chain is kept in that
    model's `place`, and given to nobody who asks the first.
    """

    entry_id: int
    answer: bytes
    saved_ms: float
    ttl_ms: int
    used: tuple[Version, ...] = ()  # the documents that it rests on, as they were
    place: EntryKeys | None = None

    def write(self, connection: Connection) -> None:
        """Write it; nothing where the entry is no longer pending. It is withdrawn where a document is not as it was."""
        if not documents_unchanged(connection, self.used):
            Withdraw(self.entry_id).write(connection)
            return
        pending = _pending(connection, self.entry_id)
        if pending is None:
            return
        write_uses(connection, self.entry_id, self.used)
        place = self.place or EntryKeys(pending.key, pending.scope, pending.normalised)
        kill(connection, [row.id for row in _live(connection, ENTRIES.c.key == place.key)], "replaced by a newer one")
        ttl = int(self.ttl_ms * random.uniform(1 - _JITTER, 1))
        connection.execute(
            update(ENTRIES)
            .where(ENTRIES.c.id == self.entry_id)
            .values(
                state="live",
                key=place.key,
                scope=place.scope,
                normalised=place.normalised,
                answer=self.answer,
                saved_ms=self.saved_ms,
                made_at=now_ms(),
                expires_at=now_ms() + literal(ttl, BigInteger),
            )
        )
        change_feed.note(connection, [self.entry_id], ENTRY)
        wake(connection, [pending.job_id])


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The answer of a pending entry may not be given to others: who waits for it is woken, to run by itself."""

    entry_id: int

    def write(self, connection: Connection) -> bool:
        """Write it; nothing where the entry is no longer pending, and whether it was."""
        pending = _pending(connection, self.entry_id)
        if pending is not None:
            withdraw(connection, ENTRIES.c.id == self.entry_id)
            wake(connection, [pending.job_id])
        return pending is not None


@dataclass(frozen=True, slots=True)
class Disallow:
    """An answer that was given is not allowed any more as it is: nobody else is given it."""

    entry_id: int
    reason: str

    def write(self, connection: Connection) -> None:
        """Write it; nothing where the entry has died."""
        kill(connection, [self.entry_id], self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An entry was served to a job."""

    job_id: str
    entry_id: int
    tenant: str
    scope: str
    tier: str
    similarity: float | None
    first_job: str
    saved_tokens: int
    saved_ms: float
    stratum: int | None = None  # of similarity, and the chance to be audited: where likeness found it
    share: float | None = None

    def write(self, connection: Connection) -> None:
        """Write it."""
        connection.execute(SERVES.insert().values(columns(SERVES, self, served_at=now_ms())))


def makes_answer() -> ColumnElement[bool]:
    """Return the condition that a job makes an answer that others would be given."""
    return select(ENTRIES.c.id).where(IS_PENDING, ENTRIES.c.job_id == JOBS.c.id).exists()


def withdraw(connection: Connection, which: ColumnElement[bool]) -> None:
    """Give up the entries whose answers are still being made."""
    findable = ENTRIES.c.vector.is_not(None).label("findable")
    gone = connection.execute(delete(ENTRIES).where(IS_PENDING, which).returning(ENTRIES.c.id, findable))
    change_feed.note(connection, [row.id for row in gone if row.findable], ENTRY)


def withdraw_of(connection: Connection, job_ids: Collection[str]) -> None:
    """Give up the answers that these jobs are still making: others who wait for one make it themselves."""
    withdraw(connection, among(connection, ENTRIES.c.job_id, job_ids))


def kill(connection: Connection, entry_ids: Sequence[int], reason: str) -> int:
    """Kill these entries and delete their questions and answers; return how many lived."""
    if not entry_ids:
        return 0
    statement = (
        update(ENTRIES)
        .where(IS_LIVE, among(connection, ENTRIES.c.id, sorted(entry_ids)))
        .values(state="dead", died_at=now_ms(), reason=bindparam("why"), question=None, vector=None, answer=None)
        .returning(ENTRIES.c.id)
    )
    dead = sorted(connection.execute(statement, {"why": reason[:2_000]}).scalars())
    change_feed.note(connection, dead, ENTRY)
    return len(dead)


def any_expired(now: Any) -> ColumnElement[bool]:
    """Return the condition that the time of an answer has come."""
    return select(ENTRIES.c.id).where(IS_LIVE, ENTRIES.c.expires_at < now).exists()


def outdate(connection: Connection, reasons: Mapping[int, str], but: str | None) -> None:
    """Kill the answers that rest on these documents, each for its document's reason; spare those on version `but`."""
    while rows := resting_on(connection, list(reasons), but, AT_ONCE):
        dying: dict[int, list[int]] = {}
        for entry_id, document_id in {row.entry_id: row.document_id for row in rows}.items():
            dying.setdefault(document_id, []).append(entry_id)
        for document_id, entry_ids in dying.items():
            kill(connection, entry_ids, reasons[document_id])


def expire(connection: Connection) -> int:
    """Serve those no more whose time has come, a bounded number a call; how many."""
    old = [row.id for row in _live(connection, ENTRIES.c.expires_at < now_ms(), limit=AT_ONCE)]
    return kill(connection, old, "too old")


def _pending(connection: Connection, entry_id: int) -> Any:
    query = select(ENTRIES.c.key, ENTRIES.c.scope, ENTRIES.c.normalised, ENTRIES.c.job_id)
    return connection.execute(query.where(ENTRIES.c.id == entry_id, IS_PENDING).with_for_update()).first()


def _live(connection: Connection, where: Any, limit: int | None = None) -> Sequence[Any]:
    query = select(ENTRIES.c.id).where(IS_LIVE, where).order_by(ENTRIES.c.id).limit(limit)
    return connection.execute(query.with_for_update()).all()
