"""Held steps and dead letters as the page *Set aside* lists them: by pages, by counts, and by the ids of a plan. All
are read along an index, with a bound on its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, Self

from sqlalchemy import ColumnElement, Connection, Row, Select, func, literal, or_, select, tuple_

from headrace_schemas.errors import Category
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.sql.database import among, clock
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import DEAD_LETTERS, IS_HELD, JOBS, NEVER, STEPS
from headrace_workers.features.console.job_lists import Place

PAGE: Final = 50
MOST: Final = 10_000  # that are counted, and that one plan holds
MOST_READ: Final = 10_000  # rows of the index for one page or count
_PARTS: Final = 10  # of so many rows, for a plan

Kind = Literal["held", "dead"]
CATEGORIES: Final[Mapping[str, Sequence[str]]] = {"held": ("a person", "a service"), "dead": tuple(Category)}
_HOUR: Final = 3_600_000
AGES: Final = {
    "": "any age",
    **{f"under-{name}": f"up to {words}" for name, words in (("1h", "1 hour"), ("1d", "1 day"), ("7d", "7 days"))},
    **{f"over-{name}": f"over {words}" for name, words in (("1h", "1 hour"), ("1d", "1 day"), ("7d", "7 days"))},
}
_AGES_MS: Final = {"1h": _HOUR, "1d": 24 * _HOUR, "7d": 168 * _HOUR}


@dataclass(frozen=True, slots=True)
class AsideFilter:
    """Conditions on held steps or dead letters; empty ones hold for all. `category` is one of `CATEGORIES`, `reason` a
    part of the reason, `application` a name with its version or without.
    """

    kind: Kind
    category: str = ""
    reason: str = ""
    stage: str = ""
    model: str = ""
    application: str = ""
    age: str = ""
    tenant: str = ""

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Return the filter that an address or a form holds; unknown ages and categories are left out."""
        kind: Kind = "dead" if given.get("kind") == "dead" else "held"
        texts = {name: given.get(name, "").replace("\x00", "").strip()[:100] for name in cls.names()}
        texts["category"] = texts["category"] if texts["category"] in CATEGORIES[kind] else ""
        texts["age"] = texts["age"] if texts["age"] in AGES else ""
        return cls(kind, **texts)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of its conditions."""
        return tuple(field.name for field in fields(cls))[1:]

    @property
    def given(self) -> dict[str, str]:
        """Return the conditions that it has, by name."""
        return {name: value for name, value in asdict(self).items() if value and name != "kind"}


@dataclass(frozen=True, slots=True)
class AsideList:
    """A page of a list. `after` leads on; with `stopped` the rows after the bound are not read yet."""

    rows: Sequence[Row[Any]]
    after: Place | None
    stopped: bool


@dataclass(frozen=True, slots=True)
class AsideCount:
    """How many there are; at least so many with `more`."""

    count: int
    more: bool

    def __str__(self) -> str:
        return f"{self.count:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class _Walk:
    """The index along which rows of a kind are read. Held steps come longest first, dead letters newest first."""

    at: ColumnElement[int]
    id: ColumnElement[str]
    where: ColumnElement[bool] | Any
    newest: bool

    def order(self) -> tuple[ColumnElement[Any], ...]:
        return (self.at.desc(), self.id.desc()) if self.newest else (self.at, self.id)

    def behind(self, query: Select[Any], after: Place | None) -> Select[Any]:
        """Return the query for what comes after a place."""
        if after is None:
            return query
        key = tuple_(self.at, self.id)
        at = self.at <= after.at if self.newest else self.at >= after.at
        return query.where(at, key < tuple(after) if self.newest else key > tuple(after))

    def edge(self, connection: Connection, after: Place | None) -> int | None:
        """Return the time up to which one page reads; None where it may read all."""
        at = select(self.at).where(self.where).order_by(self.order()[0])
        if after is not None:
            at = at.where(self.at <= after.at if self.newest else self.at >= after.at)
        return connection.execute(at.offset(MOST_READ).limit(1)).scalar()

    def up_to(self, query: Select[Any], edge: int | None) -> Select[Any]:
        """Return the query for what lies up to this time."""
        return query if edge is None else query.where(self.at >= edge if self.newest else self.at <= edge)

    def behind_edge(self, edge: int) -> Place:
        """Return the place after all that `up_to` took."""
        return Place(edge if self.newest else edge + 1, "")


_WALKS: Final[Mapping[Kind, _Walk]] = {
    "held": _Walk(STEPS.c.held_at, STEPS.c.job_id, IS_HELD, newest=False),
    "dead": _Walk(DEAD_LETTERS.c.died_at, DEAD_LETTERS.c.id, literal(value=True), newest=True),
}


def _select(connection: Connection, wanted: AsideFilter, after: Place | None, edge: int | None) -> Select[Any]:
    """Return the query for place and id of what fits."""
    walk = _WALKS[wanted.kind]
    place: list[ColumnElement[Any]] = [walk.at.label("at"), walk.id.label("id")]
    every = select(*place).where(walk.where)
    query = walk.up_to(walk.behind(every, after), edge)
    row = STEPS.c if wanted.kind == "held" else DEAD_LETTERS.c
    if wanted.kind == "held":
        query = query.join(JOBS, JOBS.c.id == STEPS.c.job_id)
    else:
        query = query.where(DEAD_LETTERS.c.replayed_at.is_(None))
    if wanted.tenant:
        query = query.where((JOBS.c if wanted.kind == "held" else DEAD_LETTERS.c).tenant == wanted.tenant)
    if wanted.category and wanted.kind == "held":
        query = query.where((STEPS.c.ready_at >= NEVER) == (wanted.category == "a person"))
    elif wanted.category:
        query = query.where(DEAD_LETTERS.c.category == wanted.category)
    if wanted.reason:
        query = query.where(row.reason.icontains(wanted.reason, autoescape=True))
    if wanted.stage:
        query = query.where(row.stage == wanted.stage)
    if wanted.model:
        query = query.where(_queue(wanted.kind) == model_queue(wanted.model))
    if wanted.application:
        name = _of_job(wanted.kind, JOBS.c.application)
        query = query.where(or_(name == wanted.application, name.startswith(f"{wanted.application}@", autoescape=True)))
    if wanted.age:
        side, _, age = wanted.age.partition("-")
        then = clock(connection) - _AGES_MS[age]
        query = query.where(walk.at < then if side == "over" else walk.at >= then)
    return query


def _of_job(kind: Kind, column: ColumnElement[Any]) -> ColumnElement[Any]:
    if kind == "held":
        return column
    return select(column).where(JOBS.c.id == DEAD_LETTERS.c.job_id).scalar_subquery()


def _queue(kind: Kind) -> ColumnElement[str]:
    if kind == "held":
        return STEPS.c.queue
    died = (STEPS.c.job_id == DEAD_LETTERS.c.job_id, STEPS.c.stage == DEAD_LETTERS.c.stage, STEPS.c.state == "dead")
    return select(STEPS.c.queue).where(*died).limit(1).scalar_subquery()


def _shown(kind: Kind, query: Select[Any]) -> Select[Any]:
    """Return the query with all that people are shown."""
    common = (_of_job(kind, JOBS.c.application).label("application"), _queue(kind).label("queue"))
    if kind == "held":
        return query.add_columns(
            STEPS.c.job_id, JOBS.c.tenant, STEPS.c.stage, STEPS.c.reason, STEPS.c.ready_at.label("again"), *common
        )
    letters = DEAD_LETTERS.c
    names = ("tenant", "stage", "reason", "category", "code", "failure", "attempts", "truncated")
    job_id = func.coalesce(letters.job_id, letters.refers_to).label("job_id")
    return query.add_columns(job_id, *(letters[name] for name in names), *common)


def page(connection: Connection, wanted: AsideFilter, after: Place | None = None) -> AsideList:
    """Return a page of what fits, after a place."""
    walk = _WALKS[wanted.kind]
    edge = walk.edge(connection, after)
    query = _shown(wanted.kind, _select(connection, wanted, after, edge)).order_by(*walk.order()).limit(PAGE + 1)
    rows = connection.execute(query).all()
    if len(rows) > PAGE:
        return AsideList(rows[:PAGE], Place(rows[PAGE - 1].at, rows[PAGE - 1].id), stopped=False)
    return AsideList(rows, None if edge is None else walk.behind_edge(edge), stopped=edge is not None)


def count(connection: Connection, wanted: AsideFilter) -> AsideCount:
    """Return how many fit, of the first rows of the index."""
    edge = _WALKS[wanted.kind].edge(connection, None)
    fitting = _select(connection, wanted, None, edge).limit(MOST + 1).subquery()
    number = connection.execute(select(func.count()).select_from(fitting)).scalar_one()
    return AsideCount(min(number, MOST), number > MOST or edge is not None)


def places(connection: Connection, wanted: AsideFilter) -> tuple[list[Place], bool]:
    """Return what fits, for a plan, and whether there may be more."""
    walk, found, after = _WALKS[wanted.kind], list[Place](), None
    for _ in range(_PARTS):
        edge = walk.edge(connection, after)
        query = _select(connection, wanted, after, edge).order_by(*walk.order()).limit(MOST + 1 - len(found))
        found += [Place(row.at, row.id) for row in connection.execute(query)]
        if len(found) > MOST or edge is None:
            return found[:MOST], len(found) > MOST
        after = walk.behind_edge(edge)
    return found, True


def of_places(connection: Connection, kind: Kind, wanted: Sequence[Place]) -> Sequence[Row[Any]]:
    """Return those of these that are as they were, with all that people are shown."""
    walk = _WALKS[kind]
    query = _select(connection, AsideFilter(kind), None, None).where(
        among(connection, walk.id, [place.job_id for place in wanted]),
        among(connection, walk.at, [place.at for place in wanted]),
    )
    return connection.execute(_shown(kind, query).order_by(*walk.order())).all()


class AsideLists(LedgerStore):
    """Steps and dead letters that are set aside in one ledger. Thread-safe. Unavailable when it does not answer."""

    page = reads(page)
    count = reads(count)
    places = reads(places)
    of_places = reads(of_places)
