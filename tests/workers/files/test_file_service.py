import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.workers.core.ledger.conftest import ledger  # noqa: F401
from tests.workers.ledger_in_short import ledger_url  # noqa: F401

from headrace_workers.core.sql.database import writing
from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store, StoreUnavailable
from headrace_workers.files.service import FileInUse, Files
from headrace_workers.files.store import files as rows
from headrace_workers.files.store.files import FileBounds, NewFile, Overtaken, TooManyFiles
from headrace_workers.files.store.stored import StoredFiles

GROWING = NewFile(id="file-out", tenant="a", purpose="batch_output", name="out.jsonl")


@pytest.fixture
def store(tmp_path):
    return Store.at(str(tmp_path / "files"))


@pytest.fixture
def files(ledger, store):  # noqa: F811
    return Files(ledger.of(StoredFiles), store)


def add(files, data=b"a\nb\n", **changes):
    known = {"tenant": "a", "purpose": "batch", "name": "jobs.jsonl", "keep": None, "lines": True}
    return files.add([data], **(known | changes))


def read(files, file_id, start=0):
    return b"".join(files.chunks(file_id, start))


def grow(ledger, growth):  # noqa: F811
    with writing(ledger.engine) as tx:
        rows.grow(tx, growth)


def test_a_file_tells_what_is_in_it(files):
    row = add(files, b"a\n\nb\n")
    assert (row.size, row.lines, row.digest) == (5, 2, hashlib.sha256(b"a\n\nb\n").hexdigest())
    assert read(files, row.id) == b"a\n\nb\n"
    assert read(files, row.id, 3) == b"b\n"


def test_what_grows_slowly_stays_few_objects(ledger, files, store):  # noqa: F811
    for number in range(100):
        grow(ledger, files.growth(GROWING, b"%d\n" % number))
    text = b"".join(b"%d\n" % number for number in range(100))
    assert read(files, "file-out") == text
    assert len(ledger.of(StoredFiles).pieces("file-out")) == 1
    assert files.settle("file-out") == hashlib.sha256(text).hexdigest()
    assert len(store.objects("a/file-out")) == 1


def test_what_grows_fast_is_not_written_anew(ledger, files):  # noqa: F811
    large = b"x" * 1024**2
    for _ in range(3):
        grow(ledger, files.growth(GROWING, large))
    assert [piece.size for piece in ledger.of(StoredFiles).pieces("file-out")] == [len(large)] * 3


def test_of_two_that_append_at_a_time_one_wins(ledger, files):  # noqa: F811
    large = b"x" * 1024**2
    for said in (b"mine\n", b"mine\n", large, b"behind"):
        mine, other = files.growth(GROWING, said), files.growth(GROWING, b"other\n")
        grow(ledger, mine)
        with pytest.raises(Overtaken):
            grow(ledger, other)
    assert read(files, "file-out") == b"mine\nmine\n" + large + b"behind"


def test_who_reads_while_it_grows_misses_nothing(ledger, files):  # noqa: F811
    grow(ledger, files.growth(GROWING, b"one\n"))
    stream = files.open("file-out")
    grow(ledger, files.growth(GROWING, b"two\n"))
    files.settle("file-out")  # the first object is no more
    assert stream.read() == b"one\ntwo\n"


def test_a_file_that_a_batch_needs_stays(ledger, files):  # noqa: F811
    row = add(files)
    ledger.of(Batches).create(
        NewBatch(id="batch_1", tenant="a", input_file=row.id, total=2, window="24h", window_ms=1_000)
    )
    with pytest.raises(FileInUse, match="batch_1"):
        files.remove(row.id)
    assert read(files, row.id) == b"a\nb\n"


def test_what_is_deleted_or_too_old_is_gone(ledger, files, store):  # noqa: F811
    deleted, old, kept = add(files), add(files, keep=-1.0), add(files, keep=60.0)
    files.remove(deleted.id)
    assert files.expire() == 1
    assert [row.id for row in ledger.of(StoredFiles).files("a")] == [kept.id]
    assert store.objects(f"a/{deleted.id}") == store.objects(f"a/{old.id}") == []
    assert read(files, kept.id) == b"a\nb\n"


@pytest.mark.parametrize("how", ["deleted", "too old"])
def test_what_the_store_could_not_remove_is_removed_later(ledger, files, store, monkeypatch, how):  # noqa: F811
    """A store that is away leaves nothing behind that nobody knows of."""
    row = add(files, keep=-1.0 if how == "too old" else None)

    def remove() -> object:
        return files.expire() if how == "too old" else files.remove(row.id)

    def away(_path):
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store._filesystem, "rm_file", away)
        with pytest.raises(StoreUnavailable, match="away"):
            remove()
    assert len(store.objects(f"a/{row.id}")) == 1
    remove()
    assert (store.objects(f"a/{row.id}"), ledger.of(StoredFiles).files("a")) == ([], [])


def test_what_cannot_be_removed_is_not_in_the_way_of_the_rest(files, store, ledger):  # noqa: F811
    stuck = [add(files, keep=-1.0) for _ in range(3)]
    for row in stuck:
        (path,) = (piece.path for piece in ledger.of(StoredFiles).pieces(row.id))
        store.remove([path])
        store.write(f"{path}/in the way", [b"x"])  # a folder, which no store takes for an object
    others = [add(files, keep=-1.0) for _ in range(6)]

    def left():
        return {row.id for row in ledger.of(StoredFiles).files("a")}

    for _ in range(200):  # each takes others, by chance
        if left() != {row.id for row in stuck}:
            with suppress(StoreUnavailable):
                files.expire(limit=4)
    assert left() == {row.id for row in stuck}
    with pytest.raises(StoreUnavailable):
        files.expire()
    assert [store.objects(f"a/{row.id}") for row in others] == [[]] * 6


def test_files_are_a_tenants(ledger, files):  # noqa: F811
    mine = [add(files, b"%d" % number).id for number in range(3)]
    other = add(files, tenant="b")
    assert {row.id for row in ledger.of(StoredFiles).files("a")} == set(mine)
    assert ledger.of(StoredFiles).file(other.id, "a") is None
    first = ledger.of(StoredFiles).files("a", limit=2)
    rest = ledger.of(StoredFiles).files("a", after=first[-1].id)
    assert {row.id for row in (*first, *rest)} == set(mine)
    assert len(rest) == 1


def test_a_tenant_keeps_so_many_bytes_and_no_more(ledger, store):  # noqa: F811
    files = Files(ledger.of(StoredFiles), store, FileBounds(bytes=10))
    first = add(files, b"a\nb\nc\n")
    with pytest.raises(TooManyFiles, match=r"have 6 bytes, 5 more were sent, and 10 may be kept"):
        add(files, b"a\nb\nc")
    assert len(store.objects("a")) == 1
    add(files, b"a\nb\nc\nd\n", tenant="b")
    files.remove(first.id)
    assert add(files, b"a\nb\nc").size == 5


def test_what_batches_write_counts_and_is_not_refused(ledger, store):  # noqa: F811
    files = Files(ledger.of(StoredFiles), store, FileBounds(bytes=4))
    grow(ledger, files.growth(GROWING, b"an answer\n"))
    with pytest.raises(TooManyFiles):
        add(files, b"a\n")


def test_two_files_at_one_moment_do_not_both_take_the_last_room(ledger, store):  # noqa: F811
    files = Files(ledger.of(StoredFiles), store, FileBounds(bytes=10))
    with ThreadPoolExecutor(4) as pool:
        tries = [pool.submit(add, files, b"a\nb\nc\n") for _ in range(4)]
        refused = [future.exception(60) for future in tries]
    assert [type(error) for error in refused].count(TooManyFiles) == 3
    assert len(ledger.of(StoredFiles).files("a")) == 1
