import pytest
from sqlalchemy import func, select, update
from tests.workers.core.ledger.batch_rows import create, line, lines, rows, stand, two_batches
from tests.workers.core.ledger.rows import job, step, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES, LINES
from headrace_workers.files.store.files import NewFile
from headrace_workers.files.store.stored import StoredFiles

FRESH = {
    "key": None, "endpoint": None, "output_file": None, "error_file": None, "metadata": "{}", "defaults": "{}",
    "state": "validating", "reason": None, "position": 0, "line": 0, "read": False, "taken": 0, "completed": 0,
    "failed": 0, "cached": 0, "prompt_tokens": 0, "completion_tokens": 0, "max_tokens": None, "reserved": 0,
    "spent": 0, "exhausted": False, "began_at": None, "cancelling_at": None, "finalizing_at": None, "ended_at": None,
    "together": False, "crashes": 0, "output_ms": None, "callback": None,
}  # fmt: skip


@pytest.fixture
def two(ledger):
    """The batches 1 and 2, of two tenants."""
    return two_batches(ledger)


def test_a_batch_is_kept_as_it_was_submitted_once(ledger):
    more = {"key": "k", "endpoint": "/v1/x", "metadata": '{"m":"1"}', "defaults": '{"d":2}', "max_tokens": 9,
            "output_ms": 8, "callback": '{"url":"u"}', "withheld": "knowledge"}  # fmt: skip
    before = ledger.now()
    made, is_new = create(ledger, "batch_1", **more)
    assert is_new
    assert before <= made.created_at <= ledger.now()
    assert made._asdict() == FRESH | more | {
        "number": 1, "id": "batch_1", "tenant": "a", "input_file": "file of batch_1", "window": "24h", "total": 3,
        "created_at": made.created_at, "expires_at": made.created_at + 86_400_000, "held": 0,
    }  # fmt: skip
    theirs, _ = create(ledger, "batch_2", "b", key="k")
    other, _ = create(ledger, "batch_3", key="l")
    assert create(ledger, "batch_4", key="k", total=7) == (made, False)
    assert create(ledger, "batch_5", "b", key="k") == (theirs, False)
    assert (theirs.id, other.id) == ("batch_2", "batch_3")
    assert [ledger.of(Batches).keyed(*which) for which in (("a", "k"), ("b", "k"), ("a", "l"), ("b", "l"))] == [
        made, theirs, other, None,
    ]  # fmt: skip
    assert ledger.of(Batches).batch("batch_1") == ledger.of(Batches).batch("batch_1", "a") == made
    assert ledger.of(Batches).batch("batch_1", "b") is ledger.of(Batches).batch("batch_9") is None


def test_batches_are_listed_newest_first_in_pages(ledger):
    for name, tenant in (("batch_1", "a"), ("batch_2", "b"), ("batch_3", "a"), ("batch_4", "a")):
        create(ledger, name, tenant)

    def names(*how, **more):
        return "".join(row.id[-1] for row in ledger.of(Batches).batches(*how, **more))

    assert [names(), names("a"), names("b"), names(limit=2)] == ["4321", "431", "2", "43"]
    assert [names(after="batch_3"), names("a", "batch_3"), names("a", "batch_2")] == ["21", "1", "431"]
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_2").values(ended_at=1))
    assert [row.id for row in ledger.of(Batches).unfinished()] == ["batch_1", "batch_3", "batch_4"]


def test_crashes_of_a_batch_are_counted_alone_and_never_below_none(two):
    def crashes():
        return {name: row["crashes"] for name, row in rows(two).items()}

    batches = two.of(Batches)
    batches.add_crashes(1, 2)
    assert crashes() == {"batch_1": 2, "batch_2": 0}
    batches.add_crashes(1, -2)
    batches.add_crashes(1, -1)
    assert crashes() == {"batch_1": 0, "batch_2": 0}


def test_lines_that_are_held_are_counted_once(two):
    for name, batch, number, state in (
        ("j1", 1, 1, "held"), ("j2", 1, 1, "held"), ("j3", 1, 2, "held"), ("j4", 1, 3, "ready"), ("j5", 2, 1, "held"),
    ):  # fmt: skip
        job(two, name, "active", batch=batch, line=number)
        step(two, name, state)
    assert {row.id: row.held for row in two.of(Batches).batches()} == {"batch_1": 2, "batch_2": 1}
    assert two.of(Batches).batch("batch_1").held == 2
    stand(two, ended_at=1)
    assert {row.id: row.held for row in two.of(Batches).batches()} == {"batch_1": 0, "batch_2": 1}


@pytest.mark.parametrize(
    ("state", "then"),
    [("validating", "cancelling"), ("in_progress", "cancelling"), ("finalizing", "finalizing"), ("failed", "failed")],
)
def test_a_batch_is_cancelled_while_it_goes_on(two, state, then):
    stand(two, state=state)
    before, now = rows(two), two.now()
    assert two.of(Batches).cancel("batch_1", "b") is None
    assert rows(two) == before
    found = two.of(Batches).cancel("batch_1", "a" if state == "validating" else None)
    assert (found.id, found.state) == ("batch_1", then)
    at = found.cancelling_at
    assert (at is not None and now <= at <= two.now()) == (then != state)
    assert rows(two) == before | {"batch_1": before["batch_1"] | {"state": then, "cancelling_at": at}}
    assert two.of(Batches).cancel("batch_9") is None


def test_a_batch_is_forgotten_behind_its_files(two):
    two.of(StoredFiles).add(NewFile(id="out", tenant="a", purpose="p", name="out"))
    for number in range(1, 7):
        line(two, 1, number * 1_000)
    line(two, 2, 1)
    old = two.now() - 10_000_000
    write(two, update(BATCHES).values(ended_at=two.now()))
    assert not two.of(Batches).forget(5_000_000)
    for column in ("output_file", "error_file"):
        stand(two, **{"ended_at": old, "output_file": None, "error_file": None, column: "out"})
        assert not two.of(Batches).forget(5_000_000)
    two.of(StoredFiles).remove(["out"])
    left = []
    while two.of(Batches).forget(5_000_000):
        of_first = select(func.count()).select_from(LINES).where(LINES.c.batch == 1)
        left.append((len(rows(two)), two.read(of_first)[0][0]))
    assert left == [(2, 1), (2, 0), (1, 0)]
    assert set(rows(two)) == {"batch_2"}
    assert set(lines(two)) == {(2, 1)}
