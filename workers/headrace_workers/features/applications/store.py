"""Applications in the ledger: versions, labels with their history, and tests. `scope` is a tenant, or SHARED; a version
is never removed.
"""

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    String,
    bindparam,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from headrace_schemas.application import PRODUCTION
from headrace_schemas.application_events import ApplicationLabelled
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.identity import label_event_id
from headrace_workers.core.ledger.outbox import outgoing, put
from headrace_workers.core.sql.database import alone, among, clock, insert
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.sql.store import LedgerStore, durable, reads, single_read
from headrace_workers.features.applications.tables import (
    APPLICATION_LABELS,
    APPLICATION_MOVES,
    APPLICATION_TESTS,
    APPLICATION_VERSIONS,
)

if TYPE_CHECKING:
    from headrace_workers.features.applications.definition import Definition

SHARED: Final = ""  # the scope of applications that all tenants see
PINNED: Final = "sha256:"  # before the digest of a version
# What the history says of the gate of a move of `production`.
PASSED: Final = "passed"
SKIPPED: Final = "skipped"
ROLLBACK: Final = "rollback"
_MOST_MOVES: Final = 1_000  # that a rollback looks at
_MOST_NUMBER: Final = 2**31 - 1  # of a version: what the column holds


class UnknownVersion(HeadraceError):
    """A version that the ledger does not have."""

    category = Category.CONFLICT


class Wanted(NamedTuple):
    """A version that a tenant asks for. `at` is a label, a number in digits, or PINNED and a digest."""

    tenant: str
    name: str
    at: str


class Version(NamedTuple):
    """A version of an application. `label` is the label by which it was asked for."""

    scope: str
    name: str
    number: int
    digest: str
    definition: str
    label: str | None


class Pushed(NamedTuple):
    """A version, when it was pushed (ms since 1970), and by whom."""

    number: int
    digest: str
    pushed_at: int
    pushed_by: str


class Move(NamedTuple):
    """A move of a label. `from_number` is None for a new label; `gate` is None where the label needs none."""

    label: str
    from_number: int | None
    to_number: int
    who: str
    at: int
    why: str | None
    gate: str | None


class Test(NamedTuple):
    """The last test of a version. `models` holds the identity of each model by its alias."""

    at: int
    passed: bool
    models: Mapping[str, str]
    report: Mapping[str, Any]


class Application(NamedTuple):
    """An application: its newest version, when that was pushed (ms since 1970), and the version of each label."""

    scope: str
    name: str
    newest: int
    pushed_at: int
    labels: Mapping[str, int]


def _push(connection: Connection, scope: str, definition: "Definition", who: str) -> tuple[int, bool]:
    """Return the number of the version with this content, and whether it is new. Raise ConfigurationError."""
    text = definition.to_json()
    if (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise ConfigurationError(
            f"the application {definition.name} has {size:,} bytes with the files beside it; the limit is "
            f"{MAX_VALUE_BYTES:,}"
        )
    _lock(connection, scope, definition.name)
    versions = APPLICATION_VERSIONS.c
    mine = (versions.scope == scope, versions.name == definition.name)
    same = select(versions.number).where(*mine, versions.digest == definition.digest)
    if (number := connection.execute(same).scalar_one_or_none()) is not None:
        return int(number), False
    number = int(connection.execute(select(func.coalesce(func.max(versions.number), 0) + 1).where(*mine)).scalar_one())
    connection.execute(
        APPLICATION_VERSIONS.insert().values(
            scope=scope, name=definition.name, number=number, digest=definition.digest, definition=text,
            pushed_at=clock(connection), pushed_by=who,
        )
    )  # fmt: skip
    return number, True


def _move(
    connection: Connection,
    scope: str,
    name: str,
    label: str,
    number: int,
    who: str,
    why: str | None = None,
    gate: str | None = None,
) -> Move | None:
    """Let a label name this version, and publish that; None if it does already. Raise UnknownVersion."""
    _lock(connection, scope, name)
    return _moved(connection, scope, name, Move(label, None, number, who, clock(connection), why, gate))


def _rollback(connection: Connection, scope: str, name: str, who: str, why: str | None = None) -> Move:
    """Let `production` name the version before, by the history. Raise UnknownVersion if there is none."""
    _lock(connection, scope, name)
    undone = 0
    for move in _history(connection, scope, name, _MOST_MOVES, PRODUCTION):
        if move.gate == ROLLBACK:
            undone += 1
        elif undone:
            undone -= 1
        elif move.from_number is None:
            break
        else:
            back = Move(PRODUCTION, None, move.from_number, who, clock(connection), why, ROLLBACK)
            moved = _moved(connection, scope, name, back)
            assert moved is not None  # noqa: S101 - a move has two different versions
            return moved
    raise UnknownVersion(
        f"{PRODUCTION} of {name} has named no other version before: `headrace apps list {name} --history` shows its "
        "moves"
    )


def _moved(connection: Connection, scope: str, name: str, move: Move) -> Move | None:
    """Write a move of an application that is locked. `from_number` is filled in here."""
    labels, versions = APPLICATION_LABELS.c, APPLICATION_VERSIONS.c
    here = (versions.scope == scope, versions.name == name, versions.number == move.to_number)
    digest = connection.execute(select(versions.digest).where(*here)).scalar_one_or_none()
    if digest is None:
        raise UnknownVersion(f"{name} has no version {move.to_number}: `headrace apps list {name}` lists its versions")
    mine = (labels.scope == scope, labels.name == name, labels.label == move.label)
    before = connection.execute(select(labels.number).where(*mine)).scalar_one_or_none()
    if before == move.to_number:
        return None
    move = move._replace(from_number=before)
    row = {"scope": scope, "name": name, "label": move.label, "number": move.to_number, "moved_at": move.at}
    connection.execute(
        insert(connection, APPLICATION_LABELS)
        .values(row)
        .on_conflict_do_update(
            index_elements=["scope", "name", "label"], set_={"number": move.to_number, "moved_at": move.at}
        )
    )
    written = APPLICATION_MOVES.insert().values(scope=scope, name=name, **move._asdict())
    move_id = connection.execute(written.returning(APPLICATION_MOVES.c.id)).scalar_one()
    event = ApplicationLabelled(
        tenant=scope or None, application=name, label=move.label, number=move.to_number, digest=digest, before=before,
        who=move.who, why=move.why,
    )  # fmt: skip
    event_id = label_event_id(scope, name, move.label, move_id, move.at)
    key = f"{scope}/{name}"
    record = outgoing(
        event, event_id=event_id, job_id=None, traceparent=None, correlationid=None, at_ms=move.at, key=key
    )
    put(connection, [record])
    return move


def _lock(connection: Connection, scope: str, name: str) -> None:
    alone(connection, f"application {scope}/{name}")


def _find(where: Connection | SingleStatements, wanted: Collection[Wanted]) -> Mapping[Wanted, Version]:
    """Return the versions that tenants ask for, by one statement; a version that is not there is left out. A tenant's
    own application hides the shared one of that name, but for digests.
    """
    if not wanted:
        return {}
    dialect = where.dialect.name
    rows = [(*row, _number(row.at), _digest(row.at)) for row in sorted(set(wanted))]
    if dialect == "postgresql":
        parameters: dict[str, Any] = dict(zip(_ASKED, map(list, zip(*rows, strict=True)), strict=True))
    else:
        parameters = {"asked": json.dumps(rows)}
    found: dict[Wanted, Version] = {}
    for tenant, name, at, label, scope, number, digest, definition in rows_of(where, _finds(dialect), parameters):
        key = Wanted(tenant, name, at)
        if scope != SHARED or key not in found:  # the tenant's own before the shared one
            found[key] = Version(scope, name, number, digest, definition, label)
    return found


_ASKED: Final = ("tenant", "name", "at", "number", "digest")


def _number(at: str) -> int | None:
    """Return the number that `at` says, if it says one that a version may have."""
    return int(at) if at.isascii() and at.isdigit() and len(at) < 11 and int(at) <= _MOST_NUMBER else None


def _digest(at: str) -> str | None:
    return at.removeprefix(PINNED) if at.startswith(PINNED) else None


@lru_cache
def _finds(dialect: str) -> Select[Any]:
    asked: Any
    if dialect == "postgresql":
        types: tuple[Any, ...] = (String, String, String, Integer, String)
        arrays = [bindparam(name, type_=ARRAY(of), required=True) for name, of in zip(_ASKED, types, strict=True)]
        asked = func.unnest(*arrays).table_valued(*_ASKED).render_derived(name="asked")
    else:
        each = func.json_each(bindparam("asked", type_=String, required=True)).table_valued("value")
        values = (func.json_extract(each.c.value, f"$[{place}]").label(name) for place, name in enumerate(_ASKED))
        asked = select(*values).select_from(each).subquery("asked")
    version, label, first = APPLICATION_VERSIONS, APPLICATION_LABELS, APPLICATION_VERSIONS.alias("first")
    own = exists().where(first.c.scope == asked.c.tenant, first.c.name == asked.c.name, first.c.number == 1)
    scope = case((own, asked.c.tenant), else_=SHARED)
    key = (asked.c.tenant, asked.c.name, asked.c.at)
    columns = (version.c.scope, version.c.number, version.c.digest, version.c.definition)
    labelled = (
        select(*key, label.c.label, *columns)
        .join_from(
            asked,
            label,
            (label.c.scope == scope) & (label.c.name == asked.c.name) & (label.c.label == asked.c.at),
        )
        .join(
            version,
            (version.c.scope == label.c.scope)
            & (version.c.name == label.c.name)
            & (version.c.number == label.c.number),
        )
    )
    no_label = cast(null(), String).label("label")
    numbered = select(*key, no_label, *columns).join_from(
        asked,
        version,
        (version.c.scope == scope) & (version.c.name == asked.c.name) & (version.c.number == asked.c.number),
    )
    pinned = select(*key, no_label, *columns).join_from(
        asked,
        version,
        or_(version.c.scope == asked.c.tenant, version.c.scope == SHARED)
        & (version.c.name == asked.c.name)
        & (version.c.digest == asked.c.digest),
    )
    return union_all(labelled, numbered, pinned)  # type: ignore[return-value]


def _version(connection: Connection, scope: str, name: str, at: str) -> Version | None:
    """Return a version of this scope by its label, or by its number in digits; None if it is not there."""
    versions, labels = APPLICATION_VERSIONS.c, APPLICATION_LABELS.c
    number: Any = _number(at)
    label = None if number is not None else at
    if label is not None:
        mine = (labels.scope == scope, labels.name == name, labels.label == label)
        number = select(labels.number).where(*mine).scalar_subquery()
    columns = (versions.scope, versions.name, versions.number, versions.digest, versions.definition)
    query = select(*columns).where(versions.scope == scope, versions.name == name, versions.number == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else Version(*row, label)


def review_rules(connection: Connection, versions: Mapping[str, tuple[str, str]]) -> dict[str, str | None]:
    """Return the review rules of these versions (name and tenant by digest), as JSON; None for a version without rules
    of its own. Versions that are not there are left out. Definitions may be large: no more of them is read.
    """
    table = APPLICATION_VERSIONS.c
    if connection.dialect.name == "postgresql":
        rules: Any = func.json_extract_path_text(cast(table.definition, JSON), "review", "rules")
    else:
        rules = func.json_extract(table.definition, "$.review.rules")
    query = select(table.digest, rules).where(
        among(connection, table.scope, sorted({SHARED, *(tenant for _, tenant in versions.values())})),
        among(connection, table.name, sorted({name for name, _ in versions.values()})),
        among(connection, table.digest, sorted(versions)),
    )
    return {digest: text for digest, text in connection.execute(query)}  # noqa: C416 - rows are no pairs to mypy


def tenants_with(name: str) -> Select[str]:
    """Return a query for the tenants that have an application of this name of their own."""
    versions = APPLICATION_VERSIONS.c
    return select(versions.scope).where(versions.name == name, versions.number == 1, versions.scope != SHARED)


def _label_naming(connection: Connection, scope: str | None, text: str) -> str | None:
    """Return an application and its label, whose version has this text as a value: one of this scope or of all tenants,
    or any where `scope` is None.
    """
    versions, labels = APPLICATION_VERSIONS.c, APPLICATION_LABELS.c
    labelled = (labels.scope == versions.scope) & (labels.name == versions.name) & (labels.number == versions.number)
    query = select(labels.name, labels.label).join(APPLICATION_VERSIONS, labelled)
    query = query.where(versions.definition.contains(f'"{text}"', autoescape=True))
    query = query if scope is None else query.where(labels.scope.in_((scope, SHARED)))
    row = connection.execute(query.limit(1)).first()
    return None if row is None else f"{row.name}@{row.label}"


def _versions(connection: Connection, scope: str, name: str, limit: int) -> list[Pushed]:
    """Return so many of the newest versions of an application."""
    columns = (APPLICATION_VERSIONS.c[field] for field in Pushed._fields)
    query = select(*columns).where(APPLICATION_VERSIONS.c.scope == scope, APPLICATION_VERSIONS.c.name == name)
    rows = connection.execute(query.order_by(APPLICATION_VERSIONS.c.number.desc()).limit(limit))
    return [Pushed(*row) for row in rows]


def _history(connection: Connection, scope: str, name: str, limit: int, label: str | None = None) -> list[Move]:
    """Return so many of the last moves of an application's labels, or of one label, the newest first."""
    moves = APPLICATION_MOVES.c
    query = select(*(moves[field] for field in Move._fields)).where(moves.scope == scope, moves.name == name)
    if label is not None:
        query = query.where(moves.label == label)
    return [Move(*row) for row in connection.execute(query.order_by(moves.id.desc()).limit(limit))]


def _listed(
    connection: Connection,
    scopes: Collection[str] | None = None,
    limit: int = 1_000,
    *,
    name: str | None = None,
    label: str | None = None,
) -> list[Application]:
    """Return applications by name and scope: those of these scopes, or all; with `name` those of that name only, with
    `label` those that have it.
    """
    versions, labels = APPLICATION_VERSIONS.c, APPLICATION_LABELS.c
    keys = (versions.name, versions.scope)
    query = select(*keys, func.max(versions.number).label("newest"), func.max(versions.pushed_at).label("pushed_at"))
    if scopes is not None:
        query = query.where(versions.scope.in_(sorted(scopes)))
    if name is not None:
        query = query.where(versions.name == name)
    if label is not None:
        there = exists().where(labels.scope == versions.scope, labels.name == versions.name, labels.label == label)
        query = query.where(there)
    page = query.group_by(*keys).order_by(*keys).limit(limit).subquery()
    joined = select(*page.c, labels.label, labels.number).join_from(
        page, APPLICATION_LABELS, (labels.scope == page.c.scope) & (labels.name == page.c.name), isouter=True
    )
    found: dict[tuple[str, str], Application] = {}
    for row in connection.execute(joined.order_by(page.c.name, page.c.scope, labels.label)):
        new = Application(row.scope, row.name, row.newest, row.pushed_at, {})
        application = found.setdefault((row.name, row.scope), new)
        if row.label is not None:
            application.labels[row.label] = row.number  # type: ignore[index]
    return list(found.values())


def _visible(connection: Connection, scope: str, name: str) -> Application | None:
    """Return the application that jobs of this scope get by this name: their own, else the shared one."""
    by_scope = {app.scope: app for app in _listed(connection, (scope, SHARED), name=name)}
    return by_scope.get(scope) or by_scope.get(SHARED)


def _note_test(
    connection: Connection,
    scope: str,
    name: str,
    number: int,
    passed: bool,
    models: Mapping[str, str],
    report: Mapping[str, Any],
) -> None:
    """Write the last test of a version, in place of the test before."""
    key = {"scope": scope, "name": name, "number": number}
    report_text = json.dumps(dict(report), ensure_ascii=False)
    values = {
        "at": clock(connection),
        "passed": passed,
        "models": json.dumps(dict(models)),
        "report": report_text,
    }
    written = insert(connection, APPLICATION_TESTS).values(key | values)
    connection.execute(written.on_conflict_do_update(index_elements=list(key), set_=values))


def _last_test(connection: Connection, scope: str, name: str, number: int) -> Test | None:
    """Return the last test of a version; None if it was never tested."""
    tests = APPLICATION_TESTS.c
    query = select(tests.at, tests.passed, tests.models, tests.report)
    row = connection.execute(
        query.where(tests.scope == scope, tests.name == name, tests.number == number)
    ).one_or_none()
    return None if row is None else Test(row.at, row.passed, json.loads(row.models), json.loads(row.report))


class Applications(LedgerStore):
    """The applications of one ledger. Thread-safe. Unavailable when the database does not answer."""

    push = durable(_push)
    move = durable(_move)
    rollback = durable(_rollback)
    note_test = durable(_note_test)
    find = single_read(_find)
    listed = reads(_listed)
    visible = reads(_visible)
    version = reads(_version)
    versions = reads(_versions)
    history = reads(_history)
    last_test = reads(_last_test)
    label_naming = reads(_label_naming)
