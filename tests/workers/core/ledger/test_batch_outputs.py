"""Lines of batches until they are in the files: in order, bounded, and no other batch's."""

from collections import Counter

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.batch_rows import end, line, lines, rows, stand, two_batches
from tests.workers.core.ledger.rows import write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.store.outputs import EndedLine, Fate, JobEnd
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.store.files import Growth, NewFile, Overtaken, Piece
from headrace_workers.files.store.stored import StoredFiles


@pytest.fixture
def two(ledger):
    """The batches 1 and 2, of two tenants."""
    return two_batches(ledger)


def test_lines_are_listed_in_order_in_pages(two):
    for number, state, code in ((3, "failed", "x"), (1, "done", None), (2, "failed", "y"), (4, "failed", "x")):
        line(two, 1, number, state, code=code)
    line(two, 2, 2, "failed", code="x")
    assert [tuple(row) for row in two.of(Batches).lines(1)] == [
        (1, "c1", "done", None, None, None), (2, "c2", "failed", "y", None, None),
        (3, "c3", "failed", "x", None, None), (4, "c4", "failed", "x", None, None),
    ]  # fmt: skip
    assert [row.number for row in two.of(Batches).lines(1, after=1, limit=2)] == [2, 3]
    assert [row.number for row in two.of(Batches).lines(1, after=2, state="failed")] == [3, 4]
    assert two.of(Batches).codes(1) == Counter(x=2, y=1)
    assert two.of(Batches).codes(2) == Counter(x=1)


def test_lines_whose_jobs_have_ended_come_in_order(two):
    for number in (3, 1, 2, 4, 5):
        line(two, 1, number, "done" if number == 4 else "open", text=b"text" if number == 1 else None)
        end(two, 1, number, f"j{number}", state="dead" if number == 2 else "active" if number == 5 else "done")
    line(two, 2, 1)
    end(two, 2, 1, "other")

    def ended(limit=9, size=10**6):
        return two.of(Batches).ended(1, limit, size, together=False)

    first = EndedLine(1, "c1", 10, b"text", (JobEnd("j1", "done", "t", b"12345"),))
    assert ended()[0] == first
    assert [(item.number, item.ends[0].state) for item in ended()] == [(1, "done"), (2, "dead"), (3, "done")]
    assert [item.number for item in ended(2)] == [1, 2]
    assert [[item.number for item in ended(size=size)] for size in (1, 5, 6, 11)] == [[1], [1], [1, 2], [1, 2, 3]]
    write(two, update(JOBS).values(terminal=None, terminal_type=None))
    assert ended()[0].ends == (JobEnd("j1", "done", "", b""),)


def test_lines_of_several_jobs_come_when_all_have_ended(two):
    for number, count in ((2, 2), (1, 2), (3, 2), (4, 1)):
        line(two, 1, number, jobs=count, text=b"x" if number == 2 else None)
    line(two, 1, 5, "done", jobs=2)
    line(two, 2, 1, jobs=2)
    for name, number in (("b2", 2), ("a2", 2), ("a1", 1), ("b1", 1), ("a3", 3), ("a5", 5), ("b5", 5)):
        end(two, 1, number, name, terminal=name.encode())
    end(two, 1, 3, "b3", state="active")
    end(two, 2, 1, "other")
    end(two, 2, 1, "other 2", state="dead", terminal=None, terminal_type=None)
    found = two.of(Batches).ended(1, 9, 10**6, together=True)
    assert found == [
        EndedLine(1, "c1", 10, None, (JobEnd("a1", "done", "t", b"a1"), JobEnd("b1", "done", "t", b"b1"))),
        EndedLine(2, "c2", 10, b"x", (JobEnd("a2", "done", "t", b"a2"), JobEnd("b2", "done", "t", b"b2"))),
    ]
    assert [row.number for row in two.of(Batches).ended(1, 1, 10**6, together=True)] == [1]
    assert two.of(Batches).ended(1, 9, 10**6, together=False) == []
    (theirs,) = two.of(Batches).ended(2, 9, 10**6, together=True)
    assert theirs.ends == (JobEnd("other", "done", "t", b"12345"), JobEnd("other 2", "dead", "", b""))


def test_lines_that_were_refused_come_in_order(two):
    for number in (2, 1, 3):
        line(two, 1, number, "refused", code="x", reason=f"why {number}", tokens=0)
    line(two, 2, 1, "refused", code="y", reason="theirs")
    found = two.of(Batches).ended(1, 2, 1, together=False)
    assert found == [EndedLine(n, f"c{n}", 0, code="x", reason=f"why {n}") for n in (1, 2)]


def test_what_is_in_the_files_is_counted(two):
    for batch in (1, 2):
        for number in (1, 2, 3):
            line(two, batch, number, "refused" if number == 3 else "open", text=b"x", code="q" if number == 3 else None)
            end(two, batch, number, f"j{batch}{number}")
    stand(two, reserved=50, spent=1, completed=4, failed=5, cached=6, prompt_tokens=7, completion_tokens=8)
    before = rows(two)
    found = two.of(Batches).ended(1, 9, 10**6, together=False)
    fates = [
        Fate(found[0], None, cached=True, prompt_tokens=100, completion_tokens=200, spent=300),
        Fate(found[1], "late", cached=True, prompt_tokens=1, completion_tokens=2, spent=3),
    ]
    output = Growth(NewFile(id="out", tenant="a", purpose="p", name="o"), 0, 5, 0, Piece("o/0", 5))
    errors = Growth(NewFile(id="err", tenant="a", purpose="p", name="e"), 0, 6, 0, Piece("e/0", 6))
    two.of(Batches).collected(1, fates, output, errors)
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
    assert [two.of(StoredFiles).file(name).size for name in ("out", "err")] == [5, 6]
    after = rows(two)
    with pytest.raises(Overtaken, match="lines of the batch were collected meanwhile"):
        two.of(Batches).collected(1, fates[:1], None, None)
    assert rows(two) == after
    stand(two, ended_at=1)
    with pytest.raises(Overtaken, match="the batch is over"):
        two.of(Batches).collected(1, [], None, None)
    with pytest.raises(Overtaken, match="the batch is over"):
        two.of(Batches).collected(9, [], None, None)
