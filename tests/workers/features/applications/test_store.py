import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import pytest
from sqlalchemy import event, func, select

from headrace_schemas.application_events import ApplicationLabelled
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_schemas.topics import Topic
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import reading
from headrace_workers.features.applications.store import (
    PINNED,
    PRODUCTION,
    SHARED,
    Applications,
    UnknownVersion,
    Wanted,
)
from headrace_workers.features.applications.tables import (
    APPLICATION_LABELS,
    APPLICATION_MOVES,
    APPLICATION_VERSIONS,
)


@dataclass(frozen=True)
class Content:
    name: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()

    def to_json(self) -> str:
        return self.text


def pushed(ledger, *texts, scope="shop", name="triage"):
    """Push these contents, and return the numbers of their versions."""
    return [ledger.of(Applications).push(scope, Content(name, text), "ada")[0] for text in texts]


def labelled(ledger, *numbers, scope="shop", name="triage", label=PRODUCTION):
    for number in numbers:
        ledger.of(Applications).move(scope, name, label, number, "ada")


def found(ledger, *wanted):
    """What a tenant gets for each name, such as `shop triage@3`: scope, number and label."""
    asked = [Wanted(tenant, *name.split("@")) for tenant, name in map(str.split, wanted)]
    versions = ledger.of(Applications).find(asked)
    return [(v.scope, v.number, v.label) if (v := versions.get(row)) else None for row in asked]


def count(ledger, table):
    with reading(ledger.engine) as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_same_content_again_is_the_same_version(ledger):
    applications = ledger.of(Applications)
    assert applications.push("shop", Content("triage", "a"), "ada") == (1, True)
    assert applications.push("shop", Content("triage", "b"), "ada") == (2, True)
    assert applications.push("shop", Content("triage", "a"), "bob") == (1, False)
    assert applications.push("mill", Content("triage", "b"), "bob") == (1, True)
    assert [(v.number, v.pushed_by) for v in applications.versions("shop", "triage", 10)] == [(2, "ada"), (1, "ada")]


def test_a_version_that_is_too_large_is_refused(ledger):
    with pytest.raises(ConfigurationError, match=r"triage has 1,000,001 bytes .* the limit is 1,000,000"):
        pushed(ledger, "x" * 1_000_001)


def test_pushes_at_one_moment_get_a_number_each_and_the_same_content_gets_one(ledger):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda place: pushed(ledger, f"content {place % 4}")[0], range(16)))
    assert sorted(set(numbers)) == [1, 2, 3, 4]
    assert count(ledger, APPLICATION_VERSIONS) == 4
    assert all(numbers[place] == numbers[place % 4] for place in range(16))


def test_moves_at_one_moment_leave_a_history_without_gaps(ledger):
    pushed(ledger, "a", "b", "c")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: labelled(ledger, place % 3 + 1), range(24)))
    moves = ledger.of(Applications).history("shop", "triage", 100)[::-1]
    assert [move.from_number for move in moves] == [None, *(move.to_number for move in moves[:-1])]
    assert found(ledger, "shop triage@production") == [("shop", moves[-1].to_number, PRODUCTION)]


def test_all_that_is_wanted_is_found_by_one_statement(ledger):
    pushed(ledger, "a", "b")
    pushed(ledger, "c", scope=SHARED, name="summary")
    labelled(ledger, 2)
    labelled(ledger, 1, label="next")
    labelled(ledger, 1, scope=SHARED, name="summary")
    statements = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    digest = PINNED + Content("", "a").digest
    assert found(
        ledger, "shop triage@production", "shop triage@next", "shop triage@1", f"shop triage@{digest}",
        "mill summary@production", "mill summary@1", "mill triage@production", "shop triage@3", "shop triage@other",
        f"shop triage@{PINNED}0", "shop triage@99999999999999999999", "shop none@production",
    ) == [
        ("shop", 2, PRODUCTION), ("shop", 1, "next"), ("shop", 1, None), ("shop", 1, None),
        (SHARED, 1, PRODUCTION), (SHARED, 1, None), None, None, None,
        None, None, None,
    ]  # fmt: skip
    assert len([statement for statement in statements if statement != "BEGIN"]) == 1


def test_a_tenants_own_application_hides_the_shared_one_of_that_name(ledger):
    pushed(ledger, "shared 1", "shared 2", scope=SHARED)
    labelled(ledger, 2, scope=SHARED)
    pinned = f"triage@{PINNED}{Content('', 'shared 2').digest}"
    wanted = [f"{tenant} {name}" for tenant in ("shop", "mill") for name in ("triage@production", "triage@2", pinned)]
    assert found(ledger, *wanted) == [(SHARED, 2, PRODUCTION), (SHARED, 2, None), (SHARED, 2, None)] * 2
    pushed(ledger, "own")
    assert found(ledger, *wanted)[:3] == [None, None, (SHARED, 2, None)]
    labelled(ledger, 1)
    assert found(ledger, *wanted) == [
        ("shop", 1, PRODUCTION), None, (SHARED, 2, None),
        (SHARED, 2, PRODUCTION), (SHARED, 2, None), (SHARED, 2, None),
    ]  # fmt: skip


def test_a_move_is_published_and_a_label_that_stays_is_not(ledger):
    (one, two) = pushed(ledger, "a", "b")
    labelled(ledger, one, one, two)
    pushed(ledger, "a", scope=SHARED)
    ledger.of(Applications).move(SHARED, "triage", "next", 1, "bob", "a try")
    records = [row.record for row in ledger.outbox(10)]
    assert {record.topic for record in records} == {Topic.APPLICATIONS}
    assert [record.key for record in records] == ["shop/triage", "shop/triage", "/triage"]
    assert len({record.headers["ce_id"] for record in records}) == 3
    told = [decode_value(record.headers["ce_type"], record.value) for record in records]
    shop = {"tenant": "shop", "application": "triage", "label": PRODUCTION, "who": "ada"}
    digests = [Content("", text).digest for text in "ab"]
    assert told == [
        ApplicationLabelled(**shop, number=1, digest=digests[0], before=None),
        ApplicationLabelled(**shop, number=2, digest=digests[1], before=1),
        ApplicationLabelled(application="triage", label="next", number=1, digest=digests[0], who="bob", why="a try"),
    ]


def test_a_label_never_names_a_version_that_is_not_there(ledger):
    pushed(ledger, "a")
    with pytest.raises(UnknownVersion, match="triage has no version 2: `headrace apps list triage`"):
        labelled(ledger, 2)
    assert count(ledger, APPLICATION_LABELS) == count(ledger, APPLICATION_MOVES) == 0


def test_a_rollback_goes_to_the_version_before_and_a_second_one_further_back(ledger):
    pushed(ledger, "a", "b", "c", "d")
    labelled(ledger, 1, 2, 3)
    back = ledger.of(Applications).rollback
    assert back("shop", "triage", "ada").to_number == 2
    labelled(ledger, 4)
    labelled(ledger, 1, label="next")
    assert [back("shop", "triage", "ada").to_number for _ in range(2)] == [2, 1]
    with pytest.raises(UnknownVersion, match="production of triage has named no other version before"):
        back("shop", "triage", "ada")
    assert found(ledger, "shop triage@production") == [("shop", 1, PRODUCTION)]
    assert [(move.to_number, move.gate) for move in ledger.of(Applications).history("shop", "triage", 2)] == [
        (1, "rollback"), (2, "rollback"),
    ]  # fmt: skip


def test_applications_are_listed_with_their_newest_version_and_labels(ledger):
    pushed(ledger, "a", "b")
    labelled(ledger, 1)
    labelled(ledger, 2, label="next")
    pushed(ledger, "a", scope=SHARED)
    pushed(ledger, "a", scope="mill", name="other")
    listed = ledger.of(Applications).listed
    assert [(a.scope, a.name, a.newest, a.labels) for a in listed()] == [
        ("mill", "other", 1, {}), (SHARED, "triage", 1, {}), ("shop", "triage", 2, {"next": 2, PRODUCTION: 1}),
    ]  # fmt: skip
    assert [a.scope for a in listed(("shop", SHARED))] == [SHARED, "shop"]
    assert [a.scope for a in listed(label="next")] == ["shop"]
    assert [a.name for a in listed(name="other")] == ["other"]
    assert len(listed(limit=2)) == 2


def test_a_version_of_a_scope_is_found_by_label_or_number(ledger):
    pushed(ledger, "a", "b")
    pushed(ledger, "c", scope=SHARED)
    labelled(ledger, 2)
    find = ledger.of(Applications).version
    assert [(v.number, v.label) for at in ("production", "1") if (v := find("shop", "triage", at))] == [
        (2, PRODUCTION), (1, None),
    ]  # fmt: skip
    assert [find(SHARED, "triage", at) for at in ("production", "2", "next")] == [None, None, None]


def test_the_last_test_of_a_version_is_kept(ledger):
    applications = ledger.of(Applications)
    pushed(ledger, "a")
    assert applications.last_test("shop", "triage", 1) is None
    applications.note_test("shop", "triage", 1, False, {"echo": "1"}, {"rows": 3})
    applications.note_test("shop", "triage", 1, True, {"echo": "2"}, {"rows": 4})
    last = applications.last_test("shop", "triage", 1)
    assert (last.passed, last.models, last.report) == (True, {"echo": "2"}, {"rows": 4})


def test_a_ledger_that_is_read_only_says_so(ledger, ledger_url):
    pushed(ledger, "a")
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = on")
        closed = ledger
    else:
        closed = Ledger.at(f"{ledger_url}?options=-cdefault_transaction_read_only%3Don")
    with pytest.raises(Unavailable, match="the ledger is read-only: let its database be written again"):
        pushed(closed, "b")
    with pytest.raises(Unavailable, match="the ledger is read-only"):
        labelled(closed, 1)
    assert found(closed, "shop triage@1") == [("shop", 1, None)]
    closed.close()


@pytest.mark.parametrize("act", ["push", "move"])
def test_a_change_that_ends_before_its_commit_changes_nothing(ledger, act):
    pushed(ledger, "a")

    given = {"push": ("shop", Content("triage", "b"), "ada"), "move": ("shop", "triage", "production", 1, "ada")}

    def end(_connection):
        raise KeyboardInterrupt

    event.listen(ledger.engine, "commit", end)
    with pytest.raises(KeyboardInterrupt):
        getattr(ledger.of(Applications), act)(*given[act])
    event.remove(ledger.engine, "commit", end)
    assert count(ledger, APPLICATION_VERSIONS) == 1
    assert count(ledger, APPLICATION_LABELS) == count(ledger, APPLICATION_MOVES) == len(ledger.outbox(10)) == 0
    assert pushed(ledger, "b") == [2]
    labelled(ledger, 2)
    assert len(ledger.outbox(10)) == 1


def test_a_label_is_found_by_what_its_version_names(ledger):
    applications = ledger.of(Applications)
    (number,) = pushed(ledger, json.dumps({"job": {"model": ["ft-base-1", "base"]}}))
    assert applications.label_naming("shop", "ft-base-1") is None
    labelled(ledger, number)
    assert applications.label_naming("shop", "ft-base-1") == "triage@production"
    assert applications.label_naming("shop", "ft-base") is None
    assert applications.label_naming("other", "ft-base-1") is None
    assert applications.label_naming(None, "ft-base-1") == "triage@production"
    pushed(ledger, '{"model": "ft-base-1"}', scope="")
    labelled(ledger, 1, scope="")
    assert applications.label_naming("other", "ft-base-1") == "triage@production"
