"""Batches in the ledger: whole rows, lines and their ends, and that no other batch is touched."""

import json
from collections import Counter
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, update
from tests.workers.ledger.rows import job, step, write
from tests.workers.webhooks.office import Office

from headrace_workers.ledger.batches.batch_feeding import Chunk
from headrace_workers.ledger.batches.batch_lines import NewLine
from headrace_workers.ledger.batches.batch_outputs import EndedLine, Fate, JobEnd
from headrace_workers.ledger.batches.batches import NewBatch
from headrace_workers.ledger.batches.files import Growth, NewFile, Overtaken, Piece
from headrace_workers.ledger.tables.batches import BATCHES, LINES
from headrace_workers.ledger.tables.core import JOBS
from headrace_workers.ledger.webhooks.delivery_views import Range

FRESH = {
    "key": None, "endpoint": None, "output_file": None, "error_file": None, "metadata": "{}", "defaults": "{}",
    "state": "validating", "reason": None, "position": 0, "line": 0, "read": False, "taken": 0, "completed": 0,
    "failed": 0, "cached": 0, "prompt_tokens": 0, "completion_tokens": 0, "max_tokens": None, "reserved": 0,
    "spent": 0, "exhausted": False, "began_at": None, "cancelling_at": None, "finalizing_at": None, "ended_at": None,
    "together": False, "output_ms": None, "callback": None,
}  # fmt: skip


def create(ledger, name, tenant="a", **fields):
    """A batch, and whether it is new."""
    known = {"input_file": f"file of {name}", "total": 3, "window": "24h", "window_ms": 86_400_000}
    return ledger.batches.create(NewBatch(id=name, tenant=tenant, **known | fields))


def line(ledger, batch, number, state="open", **fields):
    """A line of a batch."""
    known = {"batch": batch, "number": number, "custom_id": f"c{number}", "state": state, "jobs": 1, "tokens": 10}
    write(ledger, insert(LINES).values(**known | fields))


def end(ledger, batch, number, name, state="done", **fields):
    """A job of a line that has ended."""
    known = {"terminal_type": "t", "terminal": b"12345", "ended_at": 1}
    job(ledger, name, state, batch=batch, line=number, **known | fields)


def rows(ledger):
    """All batches as they are, by id."""
    return {row.id: row._asdict() for row in ledger.read(select(BATCHES))}


def lines(ledger):
    """State, code and text of all lines."""
    found = ledger.read(select(LINES).order_by(LINES.c.batch, LINES.c.number))
    return {(row.batch, row.number): (row.state, row.code, row.text) for row in found}


def stand(ledger, **values):
    """How the first batch stands from now on."""
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_1").values(**values))


@pytest.fixture
def two(ledger):
    """The batches 1 and 2, of two tenants."""
    create(ledger, "batch_1")
    create(ledger, "batch_2", "b")
    return ledger


# -- batches


def test_a_batch_is_kept_as_it_was_submitted_once(ledger):
    """The same key of the same tenant is the same batch; another's is another."""
    more = {"key": "k", "endpoint": "/v1/x", "metadata": '{"m":"1"}', "defaults": '{"d":2}', "max_tokens": 9,
            "output_ms": 8, "callback": '{"url":"u"}'}  # fmt: skip
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
    assert [ledger.batches.keyed(*which) for which in (("a", "k"), ("b", "k"), ("a", "l"), ("b", "l"))] == [
        made, theirs, other, None,
    ]  # fmt: skip
    assert ledger.batches.batch("batch_1") == ledger.batches.batch("batch_1", "a") == made
    assert ledger.batches.batch("batch_1", "b") is ledger.batches.batch("batch_9") is None


def test_batches_are_listed_newest_first_in_pages(ledger):
    """A tenant's or all; those that are not over, oldest first."""
    for name, tenant in (("batch_1", "a"), ("batch_2", "b"), ("batch_3", "a"), ("batch_4", "a")):
        create(ledger, name, tenant)

    def names(*how, **more):
        return "".join(row.id[-1] for row in ledger.batches.batches(*how, **more))

    assert [names(), names("a"), names("b"), names(limit=2)] == ["4321", "431", "2", "43"]
    assert [names(after="batch_3"), names("a", "batch_3"), names("a", "batch_2")] == ["21", "1", "431"]
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_2").values(ended_at=1))
    assert [row.id for row in ledger.batches.unfinished()] == ["batch_1", "batch_3", "batch_4"]


def test_lines_that_are_held_are_counted_once(two):
    """However many jobs of a line are; not those of another batch, or of one that is over."""
    for name, batch, number, state in (
        ("j1", 1, 1, "held"), ("j2", 1, 1, "held"), ("j3", 1, 2, "held"), ("j4", 1, 3, "ready"), ("j5", 2, 1, "held"),
    ):  # fmt: skip
        job(two, name, "active", batch=batch, line=number)
        step(two, name, state)
    assert {row.id: row.held for row in two.batches.batches()} == {"batch_1": 2, "batch_2": 1}
    assert two.batches.batch("batch_1").held == 2
    stand(two, ended_at=1)
    assert {row.id: row.held for row in two.batches.batches()} == {"batch_1": 0, "batch_2": 1}


@pytest.mark.parametrize(
    ("state", "then"),
    [("validating", "cancelling"), ("in_progress", "cancelling"), ("finalizing", "finalizing"), ("failed", "failed")],
)
def test_a_batch_is_cancelled_while_it_goes_on(two, state, then):
    """By its tenant, or by who may do so for all; another stays."""
    stand(two, state=state)
    before, now = rows(two), two.now()
    assert two.batches.cancel("batch_1", "b") is None
    assert rows(two) == before
    found = two.batches.cancel("batch_1", "a" if state == "validating" else None)
    assert (found.id, found.state) == ("batch_1", then)
    at = found.cancelling_at
    assert (at is not None and now <= at <= two.now()) == (then != state)
    assert rows(two) == before | {"batch_1": before["batch_1"] | {"state": then, "cancelling_at": at}}
    assert two.batches.cancel("batch_9") is None


def test_a_batch_comes_to_its_end_alone(two):
    """All its jobs have ended, or its input cannot be read on."""
    before, now = rows(two), two.now()
    two.batches.finalize(1)
    at = rows(two)["batch_1"]["finalizing_at"]
    assert now <= at <= two.now()
    assert rows(two) == before | {"batch_1": before["batch_1"] | {"state": "finalizing", "finalizing_at": at}}
    stand(two, finalizing_at=5)
    two.batches.finalize(1)
    assert rows(two)["batch_1"]["finalizing_at"] == 5
    stand(two, state="cancelling", finalizing_at=None)
    two.batches.finalize(1)
    assert rows(two)["batch_1"]["state"] == "cancelling"
    two.batches.stop_reading(1, "r" * 3_000)
    assert (rows(two)["batch_1"]["read"], rows(two)["batch_1"]["reason"]) == (True, "r" * 2_000)
    assert rows(two)["batch_2"] == before["batch_2"]
    stand(two, ended_at=1, finalizing_at=None, reason=None)
    two.batches.finalize(1)
    two.batches.stop_reading(1, "late")
    assert (rows(two)["batch_1"]["finalizing_at"], rows(two)["batch_1"]["reason"]) == (None, None)


def test_jobs_of_a_batch_are_let_go_of(two):
    """A bounded number; those of another batch, and those that ended, stay."""
    ids = [str(uuid4()) for _ in range(4)]
    for name, batch, state in zip(ids, (1, 1, 1, 2), ("active", "active", "done", "active"), strict=True):
        job(two, name, state, batch=batch, line=1, tenant="a" if batch == 1 else "b")
        step(two, name, "ready" if state == "active" else "done")
    assert not two.batches.is_all_ended(1)
    assert two.batches.let_go(1, "a", "why", 1) == 1
    assert two.batches.let_go(2, "a", "not theirs", 9) == 0
    assert two.batches.let_go(1, "a", "why", 9) == 1
    states = {row.id: row.state for row in two.read(select(JOBS.c.id, JOBS.c.state))}
    assert [states[name] for name in ids] == ["cancelled", "cancelled", "done", "active"]
    assert (two.batches.is_all_ended(1), two.batches.is_all_ended(2)) == (True, False)
    told = [json.loads(row.record.value) for row in two.outbox(9)]
    assert [each["reason"] for each in told] == ["why", "why"]


# -- lines


def test_lines_are_listed_in_order_in_pages(two):
    """And why they failed is counted."""
    for number, state, code in ((3, "failed", "x"), (1, "done", None), (2, "failed", "y"), (4, "failed", "x")):
        line(two, 1, number, state, code=code)
    line(two, 2, 2, "failed", code="x")
    assert [tuple(row) for row in two.batches.lines(1)] == [
        (1, "c1", "done", None), (2, "c2", "failed", "y"), (3, "c3", "failed", "x"), (4, "c4", "failed", "x"),
    ]  # fmt: skip
    assert [row.number for row in two.batches.lines(1, after=1, limit=2)] == [2, 3]
    assert [row.number for row in two.batches.lines(1, after=2, state="failed")] == [3, 4]
    assert two.batches.codes(1) == Counter(x=2, y=1)
    assert two.batches.codes(2) == Counter(x=1)


def test_a_line_may_be_called_as_one_of_another_batch(two):
    """Not as one of its own."""
    line(two, 1, 7)
    for batch in (1, 2):
        chunk = Chunk([NewLine(8, 80, "c7", code="invalid", reason="x")], 80, 8, read=True)
        assert two.batches.feed(batch, 0, chunk).lines == 1
    assert {place: code for place, (_, code, _) in lines(two).items()} == {
        (1, 7): None, (1, 8): "duplicate_custom_id", (2, 8): "invalid",
    }  # fmt: skip


def test_lines_whose_jobs_have_ended_come_in_order(two):
    """So many, and so many bytes, but always one; not those that are in the output, or another batch's."""
    for number in (3, 1, 2, 4, 5):
        line(two, 1, number, "done" if number == 4 else "open", text=b"text" if number == 1 else None)
        end(two, 1, number, f"j{number}", state="dead" if number == 2 else "active" if number == 5 else "done")
    line(two, 2, 1)
    end(two, 2, 1, "other")

    def ended(limit=9, size=10**6):
        return two.batches.ended(1, limit, size, together=False)

    first = EndedLine(1, "c1", 10, b"text", (JobEnd("j1", "done", "t", b"12345"),))
    assert ended()[0] == first
    assert [(each.number, each.ends[0].state) for each in ended()] == [(1, "done"), (2, "dead"), (3, "done")]
    assert [each.number for each in ended(2)] == [1, 2]
    assert [[each.number for each in ended(size=size)] for size in (1, 5, 6, 11)] == [[1], [1], [1, 2], [1, 2, 3]]
    write(two, update(JOBS).values(terminal=None, terminal_type=None))
    assert ended()[0].ends == (JobEnd("j1", "done", "", b""),)


def test_lines_of_several_jobs_come_when_all_have_ended(two):
    """In the order of lines, and of the jobs of each."""
    for number, count in ((2, 2), (1, 2), (3, 2), (4, 1)):
        line(two, 1, number, jobs=count, text=b"x" if number == 2 else None)
    line(two, 1, 5, "done", jobs=2)
    line(two, 2, 1, jobs=2)
    for name, number in (("b2", 2), ("a2", 2), ("a1", 1), ("b1", 1), ("a3", 3), ("a5", 5), ("b5", 5)):
        end(two, 1, number, name, terminal=name.encode())
    end(two, 1, 3, "b3", state="active")
    end(two, 2, 1, "other")
    end(two, 2, 1, "other 2", state="dead", terminal=None, terminal_type=None)
    found = two.batches.ended(1, 9, 10**6, together=True)
    assert found == [
        EndedLine(1, "c1", 10, None, (JobEnd("a1", "done", "t", b"a1"), JobEnd("b1", "done", "t", b"b1"))),
        EndedLine(2, "c2", 10, b"x", (JobEnd("a2", "done", "t", b"a2"), JobEnd("b2", "done", "t", b"b2"))),
    ]
    assert [each.number for each in two.batches.ended(1, 1, 10**6, together=True)] == [1]
    assert two.batches.ended(1, 9, 10**6, together=False) == []
    (theirs,) = two.batches.ended(2, 9, 10**6, together=True)
    assert theirs.ends == (JobEnd("other", "done", "t", b"12345"), JobEnd("other 2", "dead", "", b""))


def test_lines_that_were_refused_come_in_order(two):
    """With the reason; so many."""
    for number in (2, 1, 3):
        line(two, 1, number, "refused", code="x", reason=f"why {number}", tokens=0)
    line(two, 2, 1, "refused", code="y", reason="theirs")
    found = two.batches.ended(1, 2, 1, together=False)
    assert found == [EndedLine(n, f"c{n}", 0, code="x", reason=f"why {n}") for n in (1, 2)]


def test_what_is_in_the_files_is_counted(two):
    """Lines, jobs, tokens and files; those of another batch stay."""
    for batch in (1, 2):
        for number in (1, 2, 3):
            line(two, batch, number, "refused" if number == 3 else "open", text=b"x", code="q" if number == 3 else None)
            end(two, batch, number, f"j{batch}{number}")
    stand(two, reserved=50, spent=1, completed=4, failed=5, cached=6, prompt_tokens=7, completion_tokens=8)
    before = rows(two)
    found = two.batches.ended(1, 9, 10**6, together=False)
    fates = [
        Fate(found[0], None, cached=True, prompt_tokens=100, completion_tokens=200, spent=300),
        Fate(found[1], "late", cached=True, prompt_tokens=1, completion_tokens=2, spent=3),
    ]
    output = Growth(NewFile(id="out", tenant="a", purpose="p", name="o"), 0, 5, 0, Piece("o/0", 5))
    errors = Growth(NewFile(id="err", tenant="a", purpose="p", name="e"), 0, 6, 0, Piece("e/0", 6))
    two.batches.collected(1, fates, output, errors)
    assert rows(two) == before | {"batch_1": before["batch_1"] | {
        "completed": 5, "failed": 6, "cached": 7, "prompt_tokens": 108, "completion_tokens": 210, "reserved": 30,
        "spent": 304, "output_file": "out", "error_file": "err",
    }}  # fmt: skip
    assert lines(two) == {
        (1, 1): ("done", None, None), (1, 2): ("failed", "late", None), (1, 3): ("refused", "q", b"x"),
        (2, 1): ("open", None, b"x"), (2, 2): ("open", None, b"x"), (2, 3): ("refused", "q", b"x"),
    }  # fmt: skip
    jobs = {row.id: (row.batch, row.line) for row in two.read(select(JOBS.c.id, JOBS.c.batch, JOBS.c.line))}
    assert jobs["j11"] == jobs["j12"] == (None, None)
    assert (jobs["j13"], jobs["j21"]) == ((1, 3), (2, 1))
    assert [two.files.file(name).size for name in ("out", "err")] == [5, 6]
    after = rows(two)
    with pytest.raises(Overtaken, match="lines of the batch were collected meanwhile"):
        two.batches.collected(1, fates[:1], None, None)
    assert rows(two) == after
    stand(two, ended_at=1)
    with pytest.raises(Overtaken, match="the batch is over"):
        two.batches.collected(1, [], None, None)
    with pytest.raises(Overtaken, match="the batch is over"):
        two.batches.collected(9, [], None, None)


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({}, "completed"),
        ({"completed": 0, "failed": 3}, "failed"),
        ({"reason": "unreadable"}, "failed"),
        ({"cancelling_at": 5}, "cancelled"),
        ({"expires_at": 5}, "expired"),
        ({"expires_at": 5, "failed": 0, "completed": 3}, "completed"),
    ],
)
def test_a_batch_ends_when_all_its_lines_are_in_its_files(two, how, state):
    """Once; whoever listens is told, and another batch goes on."""
    office = Office(two)
    mine, _ = office.register("http://127.0.0.1:1/", tenant="a", events=(f"batch.{state}",))
    office.register("http://127.0.0.1:2/", tenant="b", events=(f"batch.{state}",))
    for name in ("out", "other"):
        two.files.add(NewFile(id=name, tenant="a", purpose="p", name=name))
    line(two, 1, 1, "failed", code="batch_expired")
    end(two, 1, 1, "j1")
    end(two, 2, 1, "j2")
    stand(two, taken=3, completed=2, failed=1, output_file="out", metadata='{"m":"1"}')
    assert two.batches.finish(1, {}) is None  # it is not read to its end
    stand(two, read=True, **how)
    if not how:
        stand(two, taken=4)
        assert two.batches.finish(1, {}) is None  # a line is in no file yet
        stand(two, taken=3)
    before, now = rows(two), two.now()
    ended = two.batches.finish(1, {"out": "digest"})
    assert now <= ended.ended_at <= two.now()
    changed = {"state": state, "ended_at": ended.ended_at, "finalizing_at": ended.ended_at}
    assert rows(two) == before | {"batch_1": before["batch_1"] | changed}
    assert ended._asdict() == rows(two)["batch_1"]
    assert [two.files.file(name).digest for name in ("out", "other")] == ["digest", None]
    jobs = {row.id: row.batch for row in two.read(select(JOBS.c.id, JOBS.c.batch).where(JOBS.c.subject.is_(None)))}
    assert jobs == {"j1": None, "j2": 2}
    assert two.batches.finish(1, {}) is None
    assert two.batches.finish(9, {}) is None
    (told,) = two.webhooks.deliveries(Range(), 9)
    assert (told.endpoint_id, told.type, told.subject) == (mine, f"batch.{state}", "batch_1")
    _, body = two.webhooks.delivery(told.id)
    assert json.loads(body)["data"] == {
        "id": "batch_1", "tenant": "a", "status": state,
        "request_counts": {"total": 3, "completed": ended.completed, "failed": ended.failed},
        "output_file_id": "out", "error_file_id": None, "metadata": {"m": "1"},
    }  # fmt: skip


def test_a_batch_is_forgotten_behind_its_files(two):
    """Its lines first, a bounded number; one that ended lately, or whose files are there, stays."""
    two.files.add(NewFile(id="out", tenant="a", purpose="p", name="out"))
    for number in range(1, 7):
        line(two, 1, number * 1_000)
    line(two, 2, 1)
    old = two.now() - 10_000_000
    write(two, update(BATCHES).values(ended_at=two.now()))
    assert not two.batches.forget(5_000_000)
    for column in ("output_file", "error_file"):
        stand(two, **{"ended_at": old, "output_file": None, "error_file": None, column: "out"})
        assert not two.batches.forget(5_000_000)
    two.files.remove(["out"])
    left = []
    while two.batches.forget(5_000_000):
        of_first = select(func.count()).select_from(LINES).where(LINES.c.batch == 1)
        left.append((len(rows(two)), two.read(of_first)[0][0]))
    assert left == [(2, 1), (2, 0), (1, 0)]
    assert set(rows(two)) == {"batch_2"}
    assert set(lines(two)) == {(2, 1)}
