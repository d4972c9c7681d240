"""Review items in the ledger. Lock order: the item's job, its step, the item; then the rest in the order of
`completion.py`.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, tuple_, update

from headrace_schemas.errors import HeadraceError, InvalidRecord
from headrace_schemas.review import MAX_PEOPLE, Review, ReviewDecided
from headrace_workers.core.identity import review_event_id
from headrace_workers.core.ledger.cancellation import UNKNOWN
from headrace_workers.core.ledger.job_ends import lock_active
from headrace_workers.core.ledger.outbox import outgoing, put
from headrace_workers.core.ledger.recovery import correct_held, release_held, withhold
from headrace_workers.core.sql.database import among, clock, insert, now_ms, reading, writing
from headrace_workers.core.sql.store import LedgerStore
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.store import removal
from headrace_workers.features.quality.store import add_reviews, remove_labels
from headrace_workers.features.reviews.decision import Conflict, Decision, NoSuchItem, Person
from headrace_workers.features.reviews.hooks import FORGOTTEN, close, current_rules, gone_reasons
from headrace_workers.features.reviews.item_texts import ItemContent, Shown, check_correction, example_of, shown
from headrace_workers.features.reviews.tables import (
    IS_LEASED,
    IS_OPEN,
    REVIEW_ASSIGNMENTS,
    REVIEW_DECISIONS,
    REVIEW_ITEMS,
)

LOOKED_AT: Final = 200  # candidates of one transaction
MOST_READ: Final = 10_000  # of a person's assignments at once
_LOOKS: Final = 50  # transactions until somebody is told that there is nothing
_LEASE_BITS: Final = 53  # JSON's numbers are exact up to there
UNDO: Final = "undo"

_NOW: Final = select(now_ms()).scalar_subquery()  # read once a statement: a row's own clock would use no index


class ItemRow(NamedTuple):
    """A review item. Times are in ms since 1970."""

    id: str
    tenant: str
    job_id: str
    rule: str
    stage: str | None
    ordinal: int
    replays: int
    application: str | None
    rank: int
    probability: float
    wanted: int
    decided: int
    state: str
    reason: str | None
    made_at: int
    ended_at: int | None

    @property
    def held(self) -> bool:
        """Return True if it asks what becomes of a held step, and not about an answer that has ended."""
        return self.stage is not None


class Recorded(NamedTuple):
    """A decision as the ledger has it; `decision` is absent where the person took the one before back."""

    item_id: str
    who: str
    revision: int
    action: str
    decision: Decision | None
    decided_at: int

    @property
    def stands(self) -> bool:
        """Return True unless it took the decision before back."""
        return self.action != UNDO


class Item(NamedTuple):
    """An item as a person sees it: their live lease and when that ends (ms), their newest decision, and what the ledger
    has of its job; `content` is absent where the ledger has forgotten the job.
    """

    row: ItemRow
    lease: int | None
    until: int | None
    mine: Recorded | None
    content: ItemContent | None

    @property
    def is_blind(self) -> bool:
        """Return True while what machines said is hidden from the person: until they have decided about an answer."""
        return not self.row.held and (self.mine is None or not self.mine.stands)

    @property
    def shown(self) -> Shown | None:
        """Return what the person is shown: of an ended answer neither verdict nor scores until they have decided. None
        where the ledger has forgotten the job.
        """
        return None if self.content is None else shown(self.content, self.row.stage, blind=self.is_blind)


class Decided(NamedTuple):
    """A decision that is recorded. `item` is as it is now; `wakes` tells that bridges have something to do."""

    item: ItemRow
    recorded: Recorded
    wakes: bool = False


_ITEM: Final = tuple(REVIEW_ITEMS.c[name] for name in ItemRow._fields)
_Outcome = Decided | HeadraceError


class Reviews(LedgerStore):
    """The review items of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def next(
        self, person: Person, lease_ms: int | None = None, rule: str | None = None, *, held: bool = True
    ) -> Item | None:
        """Return the person's next item, under a lease of so many ms, by default as long as the deployment's rules say:
        the one that they have, else the first that they may be given. None where there is none. Without `held` the
        person is given no held items.
        """
        waits = False
        for _ in range(_LOOKS):
            with writing(self._engine) as tx:
                lasts = current_rules(tx).lease_ms if lease_ms is None else lease_ms
                item, more = _next(tx, person, lasts, rule, held=held, waits=waits)
            if item is not None or (waits and not more):
                return item
            waits = waits or not more  # there may be room in an item that another is being given
        return None

    def item(self, person: Person, item_id: str) -> Item:
        """Return an item as this person sees it. Raise NoSuchItem where their tenant has none of this id."""
        with reading(self._engine) as tx:
            row = _find(tx, person.tenant, item_id)
            mine = _assignments(tx, row.id).get(person.who)
            live = mine is not None and mine.state == "leased" and mine.until > clock(tx)
            lease, until = (mine.lease, mine.until) if mine is not None and live else (None, None)
            return Item(row, lease, until, _newest(tx, row.id, person.who), _content(tx, row))

    def items(
        self, tenant: str, state: str | None = None, rule: str | None = None, after: str | None = None, limit: int = 20
    ) -> list[ItemRow]:
        """Return so many of a tenant's items, the newest first: those in this state, of this rule, and after the item
        `after`. Raise InvalidRecord where there is no such item.
        """
        query = select(*_ITEM).where(REVIEW_ITEMS.c.tenant == tenant)
        if state is not None:
            query = query.where(REVIEW_ITEMS.c.state == state)
        if rule is not None:
            query = query.where(REVIEW_ITEMS.c.rule == rule)
        keys = (REVIEW_ITEMS.c.made_at, REVIEW_ITEMS.c.id)
        with reading(self._engine) as tx:
            if after is not None:
                last = _known(tx, tenant, after)
                query = query.where(tuple_(*keys) < (last.made_at, last.id))
            rows = tx.execute(query.order_by(*(key.desc() for key in keys)).limit(limit))
            return [ItemRow._make(row) for row in rows]

    def mine(self, person: Person, after: str | None = None, limit: int = 20) -> list[tuple[ItemRow, Recorded]]:
        """Return so many of the items about which the person decided, the last decided first, each with the newest
        decision; those after the item of the id `after`. Raise InvalidRecord where there is no such item.
        """
        assigned = REVIEW_ASSIGNMENTS.c
        keys = (assigned.at, assigned.item_id)
        theirs = (assigned.tenant == person.tenant, assigned.who == person.who, assigned.state == "decided")
        query = select(*_ITEM).join(REVIEW_ASSIGNMENTS, assigned.item_id == REVIEW_ITEMS.c.id).where(*theirs)
        with reading(self._engine) as tx:
            if after is not None:
                last = _assignments(tx, _known(tx, person.tenant, after).id).get(person.who)
                if last is None:
                    raise InvalidRecord("after: you did not decide about this item", param="after")
                query = query.where(tuple_(*keys) < (last.at, after))
            rows = [ItemRow._make(row) for row in tx.execute(query.order_by(*(k.desc() for k in keys)).limit(limit))]
            newest = _newest_of(tx, [row.id for row in rows], person.who)
            return [(row, newest[row.id]) for row in rows]

    def decide(self, person: Person, item_id: str, decision: Decision) -> Decided:
        """Record what a person decides, and do it; it may be repeated. Raise NoSuchItem, Conflict and InvalidRecord."""
        with writing(self._engine) as tx:
            outcome = _decide(tx, person, item_id, decision)
        return _raised(outcome)

    def skip(self, person: Person, item_id: str, lease: int) -> None:
        """Give an item back for others to decide. Raise NoSuchItem, or Conflict where the lease is not the person's."""
        with writing(self._engine) as tx:
            _skip(tx, person, item_id, lease)

    def undo(self, person: Person, item_id: str) -> Decided:
        """Take back what the person last decided about an ended answer: its labels are deleted, and the item is open
        again. Raise NoSuchItem, or Conflict where there is nothing that can be taken back.
        """
        with writing(self._engine) as tx:
            return _undo(tx, person, item_id)

    def want(self, tenant: str, item_id: str, wanted: int) -> ItemRow:
        """Change how many people review an item: it is open while fewer have decided, else done. Raise NoSuchItem;
        InvalidRecord for a number that cannot be; Conflict for a held item, or one that is gone.
        """
        with writing(self._engine) as tx:
            return _want(tx, tenant, item_id, wanted)


def _raised(outcome: _Outcome) -> Decided:
    """Return what was decided, or raise the error: only now, when what was found out is committed."""
    if isinstance(outcome, HeadraceError):
        raise outcome
    return outcome


# -- items and what belongs to them


def _find(connection: Connection, tenant: str, item_id: str, *, lock: bool = False) -> ItemRow:
    """Return a tenant's item, locked where asked for. Raise NoSuchItem."""
    query = select(*_ITEM).where(REVIEW_ITEMS.c.id == item_id, REVIEW_ITEMS.c.tenant == tenant)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NoSuchItem(f"{item_id}: there is no such review item; GET /v1/reviews/items lists them")
    return ItemRow._make(row)


def _known(connection: Connection, tenant: str, after: str) -> ItemRow:
    """Return the last item of the page before. Raise InvalidRecord."""
    try:
        return _find(connection, tenant, after)
    except NoSuchItem:
        raise InvalidRecord("after: there is no such review item", param="after") from None


def _assignments(connection: Connection, item_id: str) -> dict[str, Row[Any]]:
    """Return the assignments of an item by person: state, lease, and when that ends (ms)."""
    columns = (REVIEW_ASSIGNMENTS.c[name] for name in ("who", "state", "lease", "until", "at"))
    query = select(*columns).where(REVIEW_ASSIGNMENTS.c.item_id == item_id)
    return {row.who: row for row in connection.execute(query)}


def _newest_of(connection: Connection, item_ids: Sequence[str], who: str) -> dict[str, Recorded]:
    """Return a person's newest decision about each of these items, by item."""
    decisions = REVIEW_DECISIONS.c
    columns = (decisions[name] for name in Recorded._fields)
    query = select(*columns).where(among(connection, decisions.item_id, list(item_ids)), decisions.who == who)
    return {row.item_id: _recorded(row) for row in connection.execute(query.order_by(decisions.revision))}


def _newest(connection: Connection, item_id: str, who: str) -> Recorded | None:
    return _newest_of(connection, [item_id], who).get(item_id)


def _recorded(row: Any) -> Recorded:
    said = None if row.action == UNDO else Decision.model_validate_json(row.decision)
    return Recorded(row.item_id, row.who, row.revision, row.action, said, row.decided_at)


def _content(connection: Connection, item: ItemRow) -> ItemContent | None:
    """Return what the ledger has of an item's job, and of its held step; None where the job is forgotten."""
    of_step = and_(STEPS.c.job_id == JOBS.c.id, STEPS.c.stage == item.stage, STEPS.c.ordinal == item.ordinal)
    columns = (JOBS.c[name] for name in ItemContent.OF_JOB)
    steps = (STEPS.c[name].label(label) for label, name in ItemContent.OF_STEP.items())
    # A job that was forgotten may have been cancelled since.
    query = select(*columns, *steps).outerjoin(STEPS, of_step).where(JOBS.c.id == item.job_id, JOBS.c.kind != UNKNOWN)
    row = connection.execute(query).first()
    return None if row is None else ItemContent(**row._mapping)


def decisions_after(connection: Connection, tenant: str, after: str, limit: int) -> Sequence[Row[Any]]:
    """Return all decisions about the tenant's next items after an id, in the order of items, people and revisions."""
    of_tenant, item_id = REVIEW_DECISIONS.c.tenant == tenant, REVIEW_DECISIONS.c.item_id
    ids = select(item_id).distinct().where(of_tenant, item_id > after).order_by(item_id).limit(limit)
    order = (item_id, REVIEW_DECISIONS.c.who, REVIEW_DECISIONS.c.revision)
    return connection.execute(select(REVIEW_DECISIONS).where(of_tenant, item_id.in_(ids)).order_by(*order)).all()


# -- who is given what


def _next(
    connection: Connection, person: Person, lease_ms: int, rule: str | None, *, held: bool, waits: bool
) -> tuple[Item | None, bool]:
    """Return the person's next item, and whether there may be one though none was found. One that `waits` does so for
    the first item that another is being given, and holds no other meanwhile; else such items are passed over.
    """
    mine = _live_lease(connection, person, rule, held=held)
    if mine is not None:
        return mine, False
    candidates = _candidates(person, rule, held=held).with_for_update(skip_locked=not waits, of=REVIEW_ITEMS)
    for limit in (1,) if waits else (1, LOOKED_AT):
        rows = [ItemRow._make(row) for row in connection.execute(candidates.limit(limit))]
        reasons = gone_reasons(connection, [item.id for item in rows])
        close(connection, reasons)
        for item in rows:
            if item.id not in reasons and (given := _given(connection, item, person, lease_ms)) is not None:
                return given, False
        if len(rows) < limit:
            return None, False
    return None, True


def _live_lease(connection: Connection, person: Person, rule: str | None, *, held: bool) -> Item | None:
    """Return the item that the person has and has not decided about; None where they have none."""
    assigned = REVIEW_ASSIGNMENTS.c
    query = (
        select(*_ITEM, assigned.lease, assigned.until)
        .join(REVIEW_ASSIGNMENTS, assigned.item_id == REVIEW_ITEMS.c.id)
        .where(assigned.tenant == person.tenant, assigned.who == person.who, IS_LEASED, assigned.until > _NOW)
        .where(IS_OPEN, *_of(rule, held=held))
        .order_by(assigned.at)
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    *columns, lease, until = row
    item = ItemRow._make(columns)
    if gone_reasons(connection, [item.id]):  # it is closed as any other
        return None
    return Item(item, lease, until, _newest(connection, item.id, person.who), _content(connection, item))


def _of(rule: str | None, *, held: bool) -> list[ColumnElement[bool]]:
    elements = [] if rule is None else [REVIEW_ITEMS.c.rule == rule]
    # Held items come first, by the time since when they are held; the ranks of all others are larger.
    return elements if held else [*elements, REVIEW_ITEMS.c.rank > _NOW, REVIEW_ITEMS.c.stage.is_(None)]


def _candidates(person: Person, rule: str | None, *, held: bool) -> Select[Any]:
    """Select items that the person may be given, in their order."""
    assigned = REVIEW_ASSIGNMENTS.c
    others = select(func.count()).where(
        assigned.item_id == REVIEW_ITEMS.c.id, IS_LEASED, assigned.until > _NOW, assigned.who != person.who
    )
    # Sub-selects, which no planner makes joins of: a join might sort all open items before it returns the first. The
    # newest are read once and passed over quickly; each other item is asked for by itself.
    before = select(assigned.state).where(assigned.item_id == REVIEW_ITEMS.c.id, assigned.who == person.who)
    theirs = (assigned.tenant == person.tenant, assigned.who == person.who)
    read = select(assigned.item_id, assigned.state).where(*theirs).order_by(assigned.at.desc()).limit(MOST_READ)
    newest = read.subquery("newest")
    seen = select(newest.c.item_id).where(newest.c.state != "leased")
    return (
        select(*_ITEM)
        .where(REVIEW_ITEMS.c.tenant == person.tenant, IS_OPEN, *_of(rule, held=held))
        .where(REVIEW_ITEMS.c.id.not_in(seen), func.coalesce(before.scalar_subquery(), "leased") == "leased")
        .where(REVIEW_ITEMS.c.decided + others.scalar_subquery() < REVIEW_ITEMS.c.wanted)
        .order_by(REVIEW_ITEMS.c.rank, REVIEW_ITEMS.c.id)
    )


def _given(connection: Connection, item: ItemRow, person: Person, lease_ms: int) -> Item | None:
    """Give a person a locked item; None where others took it before it was locked."""
    now = clock(connection)
    assignments = _assignments(connection, item.id)
    mine = assignments.get(person.who)
    if (mine is not None and mine.state != "leased") or item.decided + _others(assignments, person, now) >= item.wanted:
        return None
    content = _content(connection, item)
    if content is None:
        return None
    lease, until = secrets.randbits(_LEASE_BITS), now + lease_ms
    _assign(connection, item, person, "leased", lease=lease, until=until, at=now)
    return Item(item, lease, until, _newest(connection, item.id, person.who), content)


def _others(assignments: dict[str, Row[Any]], person: Person, now: int) -> int:
    """Return how many others have a live lease."""
    return sum(row.state == "leased" and row.until > now for who, row in assignments.items() if who != person.who)


def _assign(
    connection: Connection, item: ItemRow, person: Person, state: str, *, lease: int, until: int, at: int
) -> None:
    """Write what a person has to do with an item, in place of what was."""
    values = {"tenant": item.tenant, "lease": lease, "state": state, "until": until, "at": at}
    written = insert(connection, REVIEW_ASSIGNMENTS).values(item_id=item.id, who=person.who, **values)
    connection.execute(written.on_conflict_do_update(index_elements=["item_id", "who"], set_=values))


def _skip(connection: Connection, person: Person, item_id: str, lease: int) -> None:
    item = _find(connection, person.tenant, item_id, lock=True)
    mine = _assignments(connection, item.id).get(person.who)
    if mine is None or mine.state == "decided" or mine.lease != lease:
        raise Conflict("the item is not yours under this lease: ask for your next item")
    if mine.state == "leased":
        now = clock(connection)
        _assign(connection, item, person, "skipped", lease=lease, until=now, at=now)


def _want(connection: Connection, tenant: str, item_id: str, wanted: int) -> ItemRow:
    if not 1 <= wanted <= MAX_PEOPLE:
        raise InvalidRecord(f"wanted is {wanted}; it may be 1 to {MAX_PEOPLE}", param="wanted")
    item = _find(connection, tenant, item_id, lock=True)
    if item.held:
        raise Conflict("one person decides about a held item: `wanted` stays 1")
    if item.state == "gone":
        raise Conflict(f"the item is gone: {item.reason}")
    return _written(connection, item._replace(wanted=wanted))


def _written(connection: Connection, item: ItemRow) -> ItemRow:
    """Write how many people are wanted and have decided, and return the item: open while these are fewer, else done. An
    item that is gone stays so.
    """
    state = item.state if item.state == "gone" else "open" if item.decided < item.wanted else "done"
    ended_at = item.ended_at
    if state != item.state:
        ended_at = None if state == "open" else clock(connection)
    item = item._replace(state=state, ended_at=ended_at)
    values = {name: getattr(item, name) for name in ("wanted", "decided", "state", "ended_at")}
    connection.execute(update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.id == item.id).values(**values))
    return item


# -- decisions


def _decide(connection: Connection, person: Person, item_id: str, decision: Decision) -> _Outcome:
    """Record a decision and do it; return why it cannot be taken where that must not undo what was found out."""
    _hold_job(connection, _find(connection, person.tenant, item_id))
    item = _find(connection, person.tenant, item_id, lock=True)
    before = _newest(connection, item.id, person.who)
    if (known := _repeated(connection, item, before, person.who, decision)) is not None:
        return Decided(item, known)
    now = clock(connection)
    is_revision = before is not None and before.stands
    if is_revision:
        _check_revision(item)
    elif (taken := _taken(item, _assignments(connection, item.id), person, decision, now)) is not None:
        return taken
    reasons, content = gone_reasons(connection, [item.id]), _content(connection, item)
    if reasons or content is None:
        close(connection, reasons)
        return Conflict(f"nothing can be decided about this item: {reasons.get(item.id, FORGOTTEN)}")
    _check_action(item, content, decision)
    said = decision.model_copy(update={"lease": None, "revision": 1})  # as `_recorded` reads it
    recorded = Recorded(item.id, person.who, decision.revision, decision.action, said, now)
    _record(connection, person, item, content, recorded, decision.lease or 0)
    if not is_revision:
        item = _written(connection, item._replace(decided=item.decided + 1))
        _assign(connection, item, person, "decided", lease=decision.lease or 0, until=now, at=now)
    _label(connection, item, recorded)
    _do(connection, item, person, decision)
    return Decided(item, recorded, wakes=item.held)


def _hold_job(connection: Connection, item: ItemRow) -> None:
    """Lock the job of an item, and its held step. The job of an ended answer is kept from being deleted."""
    if not item.held:
        kept = select(JOBS.c.id).where(JOBS.c.id == item.job_id)
        connection.execute(kept.with_for_update(read=True, key_share=True))
    elif lock_active(connection, [item.job_id]):
        step = (STEPS.c.job_id == item.job_id, STEPS.c.stage == item.stage, STEPS.c.ordinal == item.ordinal)
        connection.execute(select(STEPS.c.job_id).where(*step).with_for_update())


def _repeated(
    connection: Connection, item: ItemRow, newest: Recorded | None, who: str, decision: Decision
) -> Recorded | None:
    """Return the decision that is recorded already, if this is the same; None where it is the person's next. Raise
    Conflict for any other.
    """
    following = 1 if newest is None else newest.revision + 1
    if decision.revision == following:
        return None
    decisions = REVIEW_DECISIONS.c
    query = select(*(decisions[name] for name in Recorded._fields)).where(
        decisions.item_id == item.id, decisions.who == who, decisions.revision == decision.revision
    )
    row = connection.execute(query).first()
    known = None if row is None else _recorded(row)
    if known is not None and known.decision is not None and known.decision.content == decision.content:
        return known
    raise Conflict(f"revision is {decision.revision}; your next decision about this item has the revision {following}")


def _check_revision(item: ItemRow) -> None:
    if item.held:
        raise Conflict("what was decided about a held job is done: it cannot be revised")


def _taken(
    item: ItemRow, assignments: dict[str, Row[Any]], person: Person, decision: Decision, now: int
) -> Conflict | None:
    """Return why the person may not decide about this item now; None where they may."""
    mine = assignments.get(person.who)
    if item.state == "gone":
        return Conflict(f"the item is gone: {item.reason}")
    if mine is None or mine.state != "leased" or mine.lease != decision.lease:
        return Conflict("the item is not yours under this lease: ask for your next item")
    if item.decided >= item.wanted:
        return Conflict("as many people as are wanted have decided about this item: ask for your next item")
    if mine.until <= now and item.decided + _others(assignments, person, now) >= item.wanted:
        return Conflict("your lease ended, and somebody else was given the item: ask for your next item")
    return None


def _check_action(item: ItemRow, content: ItemContent, decision: Decision) -> None:
    """Raise where this cannot be decided about such an item."""
    if item.held and decision.action == "label":
        raise InvalidRecord("action: a held job is released, withheld or corrected; `label` alone is not enough")
    if not item.held and decision.action != "label":
        raise Conflict(f"the job has ended: `{decision.action}` is for held jobs; an ended answer gets labels")
    if decision.corrected is not None:
        check_correction(item.stage, content, decision.corrected)


def _record(
    connection: Connection, person: Person, item: ItemRow, content: ItemContent | None, new: Recorded, lease: int
) -> None:
    """Write a decision and its event. `content` is absent where the ledger has forgotten the job."""
    said = new.decision
    example = None
    if said is not None and content is not None and current_rules(connection).may_train(item.tenant):
        example = example_of(content, said)
    connection.execute(
        REVIEW_DECISIONS.insert().values(
            **new._replace(decision=None)._asdict() | {"decision": "{}" if said is None else said.content},
            tenant=item.tenant,
            job_id=item.job_id,
            lease=lease,
            key_id=person.key_id,
            example=example,
        )
    )
    event = ReviewDecided(
        item=item.id,
        job_id=item.job_id,
        tenant=item.tenant,
        rule=item.rule,
        stage=item.stage,
        application=None if content is None else content.application_version,
        action="label" if said is None else said.action,
        labels=() if said is None else said.labels,
        corrected=None if said is None else said.corrected,
        note=None if said is None else said.note,
        who=new.who,
        revision=new.revision,
        undone=not new.stands,
    )
    record = outgoing(
        event,
        event_id=review_event_id(item.id, new.who, new.revision),
        job_id=item.job_id,
        traceparent=None if content is None else content.traceparent,
        correlationid=None if content is None else content.correlationid,
        at_ms=new.decided_at,
    )
    put(connection, [record])


def _label(connection: Connection, item: ItemRow, new: Recorded) -> None:
    """Put the labels of a decision in the place of the person's earlier ones."""
    remove_labels(connection, item.id, new.who)
    if new.decision is None or not new.decision.labels:
        return
    when = datetime.fromtimestamp(new.decided_at / 1000, UTC)
    reviews = [
        Review(
            job_id=item.job_id,
            tenant=item.tenant,
            criterion=label.criterion,
            category=label.category,
            score=label.value,
            who=new.who,
            when=when,
            probability=item.probability or None,
        )
        for label in new.decision.labels
    ]
    add_reviews(connection, reviews, item.id)


def _do(connection: Connection, item: ItemRow, person: Person, decision: Decision) -> None:
    """Do what was decided: let the held job go on or end it, or withdraw the cached copies of an answer."""
    match decision.action:
        case "release":
            release_held(connection, [item.job_id])
        case "withhold":
            withhold(connection, [item.job_id], decision.note or "a reviewer decided so")
        case "correct":
            correct_held(connection, item.job_id, decision.corrected or "")
    if decision.recall:
        entries = [answer.entry_id for answer in removal.answers_of(connection, item.job_id)]
        removal.recall(connection, entries, f"{person.who} withdrew it in a review")


def _undo(connection: Connection, person: Person, item_id: str) -> Decided:
    item = _find(connection, person.tenant, item_id, lock=True)
    before = _newest(connection, item.id, person.who)
    if before is None:
        raise Conflict("you have not decided about this item")
    if not before.stands:
        return Decided(item, before)
    if item.held:
        raise Conflict("what was decided about a held job is done: it cannot be taken back")
    now = clock(connection)
    new = Recorded(item.id, person.who, before.revision + 1, UNDO, None, now)
    _record(connection, person, item, _content(connection, item), new, 0)
    _label(connection, item, new)
    item = _written(connection, item._replace(decided=item.decided - 1))
    # They may decide again under this lease as long as nobody else was given the item.
    _assign(connection, item, person, "leased", lease=secrets.randbits(_LEASE_BITS), until=now, at=now)
    return Decided(item, new)
