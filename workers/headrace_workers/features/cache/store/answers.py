"""The answers that may be given again, as the ledger keeps them."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from headrace_schemas import Category, DeadLetter, GenerationJob
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import MARK, Mark, Position, mark_of
from headrace_workers.core.sql.database import among, reading
from headrace_workers.core.sql.store import LedgerStore, durable, reads, single_read
from headrace_workers.core.tables import CHANGES, JOBS, STEPS
from headrace_workers.features.cache.store import entries, removal
from headrace_workers.features.cache.tables import ENTRIES, ENTRY, IS_LIVE, IS_PENDING, SERVES
from headrace_workers.features.knowledge.store.documents import Version

# Of the others another try may be answered.
_WOULD_AGAIN: Final = frozenset({Category.INVALID, Category.PERMANENT, Category.POISON})


@dataclass(frozen=True, slots=True)
class Failure:
    """A request, and how it ended."""

    job: GenerationJob
    category: Category
    reason: str


def failed_jobs(connection: Connection, job_ids: Collection[str]) -> dict[str, Failure]:
    """Return by id the dead jobs that would die again if they ran again.

    Jobs that a person withheld are left out: nothing follows from them for others.
    """
    columns = (JOBS.c.id, JOBS.c.kind, JOBS.c.payload, JOBS.c.terminal_type, JOBS.c.terminal)
    withheld = select(STEPS.c.job_id).where(STEPS.c.job_id == JOBS.c.id, STEPS.c.held_at.is_not(None)).exists()
    dead = (among(connection, JOBS.c.id, sorted(job_ids)), JOBS.c.state == "dead", ~withheld)
    query = select(*columns).where(*dead)
    failures = {}
    for row in connection.execute(query):
        try:
            job, end = decode_job(row.kind, row.payload), decode_value(row.terminal_type, row.terminal)
        except InvalidRecord:  # another version's
            continue
        if isinstance(job, GenerationJob) and isinstance(end, DeadLetter) and end.category in _WOULD_AGAIN:
            failures[row.id] = Failure(job, end.category, end.reason)
    return failures


_NOW: Final = (ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector, ENTRIES.c.state)
_IS_FINDABLE: Final = and_(ENTRIES.c.id == CHANGES.c.subject, ENTRIES.c.state.in_(("live", "pending")))


class Change(NamedTuple):
    """An entry as it is now; without a vector likeness does not find it, or no longer. If it is `making`, its answer is
    not there yet.
    """

    entry_id: int
    scope: str | None
    question: str | None
    vector: bytes | None
    making: bool = False
    mark: Mark = Mark(0, 0, 0, 0)  # its place among the changes; nowhere, if it was read as it stands

    @property
    def position(self) -> Position:
        """Return the follower's position."""
        return self.mark.position


def snapshot(connection: Connection, after: int, limit: int, *, making: bool = False) -> list[Change]:
    """Return entries that likeness may find, live ones or ones being made, in the order of their ids."""
    query = (
        select(ENTRIES.c.id, ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector)
        .where(IS_PENDING if making else IS_LIVE, ENTRIES.c.id > after, ENTRIES.c.vector.is_not(None))
        .order_by(ENTRIES.c.id)
        .limit(limit)
    )
    return [Change(*row, making) for row in connection.execute(query)]


def follow_entries(connection: Connection, after: Position, limit: int) -> list[Change]:
    """Return the changes of entries after a position, in order, each with what the entry is now."""
    changes = change_feed.follow(connection, ENTRY, after, limit, _NOW, _IS_FINDABLE)
    return [_change(mark, row) for mark, row in changes]


def recent_changes(connection: Connection, after: int, scopes: Collection[str], limit: int) -> list[Change]:
    """Return what is new in these scopes since the change of this number, the latest first, in whatever order it came.

    Use it for one look, not to follow: changes of a slow writer may be missing, and changes may repeat ones that were
    followed.
    """
    query = (
        select(*MARK, *_NOW)
        .select_from(CHANGES.join(ENTRIES, _IS_FINDABLE))
        .where(
            CHANGES.c.number > after,
            CHANGES.c.kind == ENTRY,
            ENTRIES.c.vector.is_not(None),
            among(connection, ENTRIES.c.scope, sorted(scopes)),
        )
        .order_by(CHANGES.c.number.desc())
        .limit(limit)
    )
    return [_change(mark_of(row), row) for row in connection.execute(query)]


def _change(mark: Mark, row: Any) -> Change:
    return Change(mark.subject, row.scope, row.question, row.vector, row.state == "pending", mark)


_STAGE, _DECIDES = "recall", "decide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Counts of answers: given ones by tier, the savings, and kept ones by state."""

    served: Mapping[str, int] = field(default_factory=dict)  # by tier
    saved_tokens: int = 0
    saved_ms: float = 0.0
    entries: Mapping[str, int] = field(default_factory=dict)  # by state: pending, live, dead


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """All counts. `asked` counts the jobs with a step of recall that the ledger has not forgotten, and those whose
    decisions were given or kept; `answered` the ones that were given an answer; `open` the ones that have not been
    looked up yet, or wait for another job.
    """

    asked: int
    answered: int
    open: int
    kept: Kept


def cache_counts(connection: Connection, tenant: str | None = None, since_ms: int | None = None) -> CacheCounts:
    """Return, of one tenant or all, jobs accepted, answers given and answers that died since then, and all that
    lives or is being made.
    """
    given = select(SERVES.c.id).where(SERVES.c.job_id == STEPS.c.job_id).exists()
    kept = select(ENTRIES.c.id).where(ENTRIES.c.job_id == STEPS.c.job_id).exists()
    asks = (STEPS.c.stage == _STAGE) | ((STEPS.c.stage == _DECIDES) & (given | kept))
    query = (
        select(STEPS.c.state, given.label("given"), func.count(STEPS.c.job_id.distinct()).label("jobs"))
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(asks, *_since(JOBS.c.tenant, tenant, JOBS.c.accepted_at, since_ms))
        .group_by(STEPS.c.state, given)
    )
    rows = connection.execute(query).all()
    return CacheCounts(
        asked=sum(row.jobs for row in rows),
        answered=sum(row.jobs for row in rows if row.given),
        open=sum(row.jobs for row in rows if row.state not in ("done", "dead", "cancelled")),
        kept=_sum(list(scope_counts(connection, tenant, since_ms).values())),
    )


def scope_counts(
    connection: Connection, tenant: str | None = None, since_ms: int | None = None
) -> dict[tuple[str, str], Kept]:
    """Return the same by (tenant, scope); answers that only the very same request is given have the empty scope."""
    served: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(
        select(
            SERVES.c.tenant, SERVES.c.scope, SERVES.c.tier, func.count().label("times"),
            func.sum(SERVES.c.saved_tokens).label("tokens"), func.sum(SERVES.c.saved_ms).label("ms"),
        )
        .where(*_since(SERVES.c.tenant, tenant, SERVES.c.served_at, since_ms))
        .group_by(SERVES.c.tenant, SERVES.c.scope, SERVES.c.tier)
    ):  # fmt: skip
        served.setdefault((row.tenant, row.scope), []).append(row)
    kept: dict[tuple[str, str], dict[str, int]] = {}
    gone = [] if since_ms is None else [(ENTRIES.c.died_at.is_(None)) | (ENTRIES.c.died_at >= since_ms)]
    for entry in connection.execute(
        select(ENTRIES.c.tenant, ENTRIES.c.scope, ENTRIES.c.state, func.count().label("entries"))
        .where(*_since(ENTRIES.c.tenant, tenant), *gone)
        .group_by(ENTRIES.c.tenant, ENTRIES.c.scope, ENTRIES.c.state)
    ):
        kept.setdefault((entry.tenant, entry.scope), {})[entry.state] = entry.entries
    return {
        name: Kept(
            served={row.tier: row.times for row in served.get(name, ())},
            saved_tokens=sum(int(row.tokens) for row in served.get(name, ())),
            saved_ms=sum(float(row.ms) for row in served.get(name, ())),
            entries=kept.get(name, {}),
        )
        for name in sorted({*served, *kept})
    }


def _sum(parts: list[Kept]) -> Kept:
    tiers, states = Counter[str](), Counter[str]()
    for part in parts:
        tiers.update(part.served)
        states.update(part.entries)
    return Kept(
        served=dict(tiers),
        saved_tokens=sum(part.saved_tokens for part in parts),
        saved_ms=sum(part.saved_ms for part in parts),
        entries=dict(states),
    )


def _since(whose: Any, tenant: str | None, at: Any = None, since_ms: int | None = None) -> list[ColumnElement[bool]]:
    conditions = [] if tenant is None else [whose == tenant]
    return conditions if since_ms is None or at is None else [*conditions, at >= since_ms]


def _withdraw(connection: Connection, entry_id: int) -> bool:
    """Let the answer of a pending entry be made by nobody; return True if it was pending."""
    return entries.Withdraw(entry_id).write(connection)


def _outdate(connection: Connection, wanted: Mapping[int, Collection[Version]], reason: str) -> set[int]:
    """Kill the answers that do not rest on all documents named with them; return their ids."""
    used = entries.uses_of(connection, list(wanted))
    old = {entry_id for entry_id, documents in wanted.items() if set(documents) - used.get(entry_id, set())}
    entries.kill(connection, sorted(old), reason)
    return old


class Answers(LedgerStore):
    """The answers of one ledger. Thread-safe. Unavailable when the database does not answer."""

    exact = single_read(entries.exact)
    alike_but_for_form = single_read(entries.alike_but_for_form)
    living = single_read(entries.living)
    lead = durable(entries.lead)
    withdraw = durable(_withdraw)
    evict = durable(removal.evict)
    in_the_making = reads(entries.in_the_making)
    alike_in_the_making = reads(entries.alike_in_the_making)
    failed = reads(failed_jobs)

    # -- what workers keep in memory

    snapshot = reads(snapshot)
    changed = reads(follow_entries)
    lately = reads(recent_changes)

    def mark(self, up_to: change_feed.Position) -> change_feed.Mark | None:
        """Return the last change of an answer up to a position; None if there is none."""
        with reading(self._engine) as tx:
            return change_feed.mark(tx, up_to, ENTRY)

    def stands(self, mark: change_feed.Mark) -> bool:
        """Return True if a follower may go on from this change: see `changes.stands`."""
        with reading(self._engine) as tx:
            return change_feed.stands(tx, mark, ENTRY)

    # -- answers that turn out to be wrong

    of_job = reads(removal.answers_of)
    recall = durable(removal.recall)
    outdate = durable(_outdate)
    running = reads(removal.running)
    served = reads(removal.served)
    given = reads(removal.given)
    to_ask_again = reads(removal.to_ask_again)

    # -- for people

    count = reads(removal.count)
    purge = durable(removal.purge)
    counts = reads(cache_counts)
    scopes = reads(scope_counts)
