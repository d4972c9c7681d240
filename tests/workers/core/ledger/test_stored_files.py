"""Files and uploads in the ledger: whole rows, and nobody's are touched but those that are meant."""

from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.files.store import files as rows
from headrace_workers.files.store.files import Growth, NewFile, Overtaken, Piece, Tail
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.files.tables import FILES, PARTS, UPLOADS

ONE = NewFile(
    id="file-1", tenant="a", purpose="batch", name="one.jsonl", pieces=(Piece("1/0", 3), Piece("1/1", 4)), lines=2,
    digest="d1", keep_ms=5_000_000,
)  # fmt: skip
OTHER = NewFile(id="file-2", tenant="b", purpose="evals", name="other.jsonl", pieces=(Piece("2/0", 9),))
GROWS = NewFile(id="file-3", tenant="a", purpose="batch_output", name="out.jsonl", keep_ms=60_000)
DAY_MS = 86_400_000


@pytest.fixture
def files(ledger):
    ledger.of(StoredFiles).add(ONE)
    ledger.of(StoredFiles).add(OTHER)
    return ledger.of(StoredFiles)


def plain(row):
    """A row, with how long it lives in place of its times."""
    said = row._asdict()
    made, ends = said.pop("created_at"), said.pop("expires_at")
    return said | {"lives": None if ends is None else ends - made}


def grow(ledger, growth):
    with writing(ledger.engine) as tx:
        rows.grow(tx, growth)


def write(ledger, statement):
    with writing(ledger.engine) as tx:
        tx.execute(statement)


# -- files


def test_a_file_is_kept_as_it_was_written_down(ledger):
    before = ledger.now()
    ledger.of(StoredFiles).add(ONE)
    ledger.of(StoredFiles).add(OTHER)
    file = ledger.of(StoredFiles).file("file-1")
    assert before <= file.created_at <= ledger.now()
    assert plain(file) == {
        "id": "file-1", "tenant": "a", "purpose": "batch", "name": "one.jsonl", "size": 7, "lines": 2, "digest": "d1",
        "lives": 5_000_000,
    }  # fmt: skip
    assert plain(ledger.of(StoredFiles).file("file-2", "b")) == {
        "id": "file-2", "tenant": "b", "purpose": "evals", "name": "other.jsonl", "size": 9, "lines": None,
        "digest": None, "lives": None,
    }  # fmt: skip
    assert ledger.of(StoredFiles).file("file-1", "a") == file
    assert ledger.of(StoredFiles).file("file-1", "b") is None
    assert ledger.of(StoredFiles).file("file-9") is None


def test_a_files_objects_are_told_in_their_order(ledger, files):
    write(ledger, update(rows.PIECES).where(rows.PIECES.c.path == "1/0").values(number=2))
    assert files.pieces("file-1") == [Piece("1/1", 4), Piece("1/0", 3)]
    assert files.pieces("file-2") == [Piece("2/0", 9)]
    assert files.tail("file-1") == Tail(7, 3, Piece("1/0", 3))
    assert files.tail("file-2") == Tail(9, 1, Piece("2/0", 9))
    assert files.tail("file-9") == Tail(0, 0, None)
    assert files.pieces("file-9") == []


def test_files_are_listed_by_age_in_pages(ledger, files):
    for name, at, purpose in (("p", 1, "x"), ("q", 1, "y"), ("r", 2, "x"), ("s", 3, "x")):
        files.add(NewFile(id=name, tenant="c", purpose=purpose, name=name))
        write(ledger, update(FILES).where(FILES.c.id == name).values(created_at=at))

    def names(**how):
        return "".join(row.id for row in files.files("c", **how))

    assert names() == "srqp"
    assert names(newest_first=False) == "pqrs"
    assert names(purpose="x") == "srp"
    assert names(limit=3) == "srq"
    assert [names(after=text) for text in "srqp"] == ["rqp", "qp", "p", ""]
    assert [names(after=text, newest_first=False) for text in "pqrs"] == ["qrs", "rs", "s", ""]
    assert names(purpose="x", after="r") == "p"
    assert names(after="file-1") == "srqp"  # it is another tenant's, and so is not known
    assert plain(files.files("b")[0]) == plain(files.file("file-2"))


def test_a_file_that_is_complete_has_its_digest(files):
    files.complete("file-2", "d2")
    assert [files.file(name).digest for name in ("file-1", "file-2")] == ["d1", "d2"]


@pytest.mark.parametrize("column", ["input_file", "output_file", "error_file"])
def test_a_file_is_in_use_while_a_batch_of_it_runs(ledger, files, column):
    for name in ("batch_1", "batch_2"):
        ledger.of(Batches).create(NewBatch(id=name, tenant="a", input_file="?", total=1, window="24h", window_ms=1_000))
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_2").values({column: "file-1"}))
    write(ledger, update(FILES).values(expires_at=1))
    assert files.in_use("file-1") == "batch_2"
    assert files.in_use("file-2") is None
    assert files.expired(9) == ["file-2"]
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_2").values(ended_at=1))
    assert files.in_use("file-1") is None
    assert sorted(files.expired(9)) == ["file-1", "file-2"]


def test_files_whose_time_is_over_are_found(ledger, files):
    """So many at a time; what is kept for ever is not among them, nor what has time left."""
    assert files.expired(9) == []
    for name in ("p", "q"):
        files.add(NewFile(id=name, tenant="a", purpose="x", name="x", keep_ms=-1_000))
    assert sorted(files.expired(9)) == ["p", "q"]
    assert len(files.expired(1)) == 1


def test_a_file_that_is_removed_leaves_nothing(files):
    files.add(replace(OTHER, id="file-4", pieces=(Piece("4/0", 1),)))
    assert sorted(files.remove(["file-1", "file-4", "file-9"])) == ["1/0", "1/1", "4/0"]
    assert [files.file(name) for name in ("file-1", "file-4")] == [None, None]
    assert [files.pieces(name) for name in ("file-1", "file-4")] == [[], []]
    assert files.file("file-2").size == 9
    assert files.pieces("file-2") == [Piece("2/0", 9)]
    assert files.remove([]) == []


def test_a_file_grows_by_objects_and_in_its_last(ledger, files):
    grow(ledger, Growth(GROWS, 0, 5, 0, Piece("3/0", 5)))
    assert plain(files.file("file-3")) == {
        "id": "file-3", "tenant": "a", "purpose": "batch_output", "name": "out.jsonl", "size": 5, "lines": None,
        "digest": None, "lives": 60_000,
    }  # fmt: skip
    grow(ledger, Growth(GROWS, 5, 2, 1, Piece("3/1", 2)))
    grow(ledger, Growth(GROWS, 7, 4, 1, Piece("3/1+", 6), replaces="3/1"))
    assert files.tail("file-3") == Tail(11, 2, Piece("3/1+", 6))
    assert files.pieces("file-3") == [Piece("3/0", 5), Piece("3/1+", 6)]
    assert [files.file(name).size for name in ("file-1", "file-2")] == [7, 9]
    assert files.pieces("file-1") == [*ONE.pieces]


@pytest.mark.parametrize(
    ("growth", "why"),
    [
        (Growth(replace(GROWS, id="file-1"), 0, 5, 0, Piece("x", 5)), "the file file-1 has been made meanwhile"),
        (Growth(replace(GROWS, id="file-1"), 6, 5, 2, Piece("x", 5)), "the file file-1 has grown meanwhile"),
        (Growth(replace(GROWS, id="file-1"), 7, 1, 1, Piece("x", 5), "1/0"), "the file file-1 has grown meanwhile"),
        (Growth(replace(GROWS, id="file-1"), 7, 1, 0, Piece("x", 5), "2/0"), "the file file-1 has grown meanwhile"),
        (Growth(replace(GROWS, id="file-9"), 0, 5, 1, Piece("x", 5)), "the file file-9 has grown meanwhile"),
    ],
)
def test_a_file_that_is_not_as_it_was_does_not_grow(ledger, files, growth, why):
    with pytest.raises(Overtaken) as told:
        grow(ledger, growth)
    assert str(told.value) == why
    assert files.file("file-1").size == 7
    assert files.pieces("file-1") == [*ONE.pieces]
    assert files.file("file-9") is None


# -- uploads in parts


def begin(files, upload_id="upload_1", tenant="a", **changes):
    known = {"purpose": "batch", "name": "big.jsonl", "size": 70, "lives_ms": 900_000, "file_seconds": 60}
    return files.begin_upload(upload_id=upload_id, tenant=tenant, **(known | changes))


def test_an_upload_is_pending_with_its_parts(ledger, files):
    before = ledger.now()
    row = begin(files)
    assert before <= row.created_at <= ledger.now()
    begin(files, "upload_2", "b", file_seconds=None)
    assert plain(row) == {
        "id": "upload_1", "tenant": "a", "purpose": "batch", "name": "big.jsonl", "size": 70, "state": "pending",
        "file_id": None, "completion": None, "file_seconds": 60, "lives": 900_000,
    }  # fmt: skip
    assert files.upload("upload_1", "a") == row
    assert files.upload("upload_1", "b") is None
    assert files.upload("upload_9", "a") is None
    assert files.upload("upload_2", "b").file_seconds is None
    at = files.add_part("upload_1", "a", "part_1", Piece("u/1", 30))
    assert row.created_at <= at <= ledger.now()
    assert files.add_part("upload_2", "b", "part_2", Piece("u/2", 40)) is not None
    assert files.add_part("upload_1", "b", "part_3", Piece("u/3", 1)) is None
    assert files.add_part("upload_9", "a", "part_3", Piece("u/3", 1)) is None
    assert files.parts("upload_1") == {"part_1": Piece("u/1", 30)}
    assert files.parts("upload_2") == {"part_2": Piece("u/2", 40)}
    assert [row.created_at for row in ledger.read(select(PARTS).where(PARTS.c.id == "part_1"))] == [at]


def test_an_upload_is_completed_once(ledger, files):
    for name, tenant in (("upload_1", "a"), ("upload_2", "b")):
        begin(files, name, tenant)
        files.add_part(name, tenant, f"part of {name}", Piece(f"u/{name}", 30))
    files.add_part("upload_1", "a", "another part", Piece("u/another", 30))
    whole = NewFile(id="file-5", tenant="a", purpose="batch", name="big.jsonl", pieces=(Piece("u/upload_1", 30),))
    assert not files.complete_upload("upload_1", replace(whole, tenant="b"), ["part of upload_1"], "c0")
    assert files.left_over(9) == {}
    assert files.complete_upload("upload_1", whole, ["part of upload_1"], "c1")
    assert not files.complete_upload("upload_1", replace(whole, id="file-6"), ["another part"], "c2")
    upload = files.upload("upload_1", "a")
    assert (upload.state, upload.file_id, upload.completion) == ("completed", "file-5", "c1")
    assert files.file("file-5").size == 30
    assert files.file("file-6") is None
    assert files.add_part("upload_1", "a", "part_3", Piece("u/3", 1)) is None
    assert not files.cancel_upload("upload_1", "a")
    assert files.left_over(9) == files.left_over(9, "upload_1") == {"another part": "u/another"}
    assert files.left_over(9, "upload_2") == files.left_over(0) == {}
    files.forget_parts(["another part"])
    assert files.left_over(9) == files.parts("upload_1") == {}
    assert files.parts("upload_2") == {"part of upload_2": Piece("u/upload_2", 30)}
    other = files.upload("upload_2", "b")
    assert (other.state, other.file_id, other.completion) == ("pending", None, None)


def test_an_upload_is_cancelled_by_its_tenant(files):
    begin(files)
    begin(files, "upload_2", "b")
    assert not files.cancel_upload("upload_1", "b")
    assert files.upload("upload_1", "a").state == "pending"
    assert files.cancel_upload("upload_1", "a")
    assert not files.cancel_upload("upload_1", "a")
    upload = files.upload("upload_1", "a")
    assert (upload.state, upload.file_id, upload.completion) == ("cancelled", None, None)
    assert files.upload("upload_2", "b").state == "pending"


def test_an_upload_whose_time_is_over_takes_nothing(ledger, files):
    begin(files)
    files.add_part("upload_1", "a", "part_1", Piece("u/1", 30))
    write(ledger, update(UPLOADS).values(expires_at=ledger.now() - 1_000))
    assert files.upload("upload_1", "a").state == "expired"
    assert files.add_part("upload_1", "a", "part_2", Piece("u/2", 1)) is None
    whole = NewFile(id="file-5", tenant="a", purpose="batch", name="big.jsonl", pieces=(Piece("u/1", 30),))
    assert not files.complete_upload("upload_1", whole, ["part_1"], "c1")
    assert not files.cancel_upload("upload_1", "a")
    files.expire_uploads(9)
    assert files.left_over(9) == {"part_1": "u/1"}


def test_uploads_that_were_not_completed_in_time_end(ledger, files):
    for name in ("late", "later", "pending", "done"):
        begin(files, name)
        files.add_part(name, "a", f"part of {name}", Piece(f"u/{name}", 1))
    assert files.cancel_upload("done", "a")
    write(ledger, update(UPLOADS).where(UPLOADS.c.id != "pending").values(expires_at=ledger.now() - 1_000))
    assert files.left_over(9) == {"part of done": "u/done"}
    for count in (2, 3, 3):
        files.expire_uploads(1)
        assert len(files.left_over(9)) == count
    assert sorted(files.left_over(9).values()) == ["u/done", "u/late", "u/later"]
    assert len(files.left_over(2)) == 2
    states = {name: files.upload(name, "a").state for name in ("late", "later", "pending", "done")}
    assert states == {"late": "expired", "later": "expired", "pending": "pending", "done": "cancelled"}
    files.forget_parts(["part of late", "part of later"])
    assert files.parts("late") == {}
    assert files.parts("pending") == {"part of pending": Piece("u/pending", 1)}
    for name, ago in (("late", DAY_MS + 600_000), ("later", DAY_MS - 600_000), ("done", DAY_MS + 600_000)):
        write(ledger, update(UPLOADS).where(UPLOADS.c.id == name).values(expires_at=ledger.now() - ago))
    for gone in ([True, False, False, False], [True, False, False, True]):
        files.expire_uploads(9)
        assert [files.upload(name, "a") is None for name in ("late", "later", "pending", "done")] == gone
        files.forget_parts(["part of done"])
