"""Uploads in parts: what becomes no file leaves nothing in the store, whatever happens in the middle."""

import pytest
from tests.workers.core.ledger.conftest import ledger  # noqa: F401
from tests.workers.files.test_file_service import add, files, read, store  # noqa: F401 - fixtures among them
from tests.workers.ledger_in_short import ledger_url  # noqa: F401

from headrace_workers.files.object_store import StoreUnavailable
from headrace_workers.files.service import Files
from headrace_workers.files.store.files import FileBounds, TooManyFiles
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.files.uploads import MOST_PARTS, NotPending, Uploads, WrongUpload


@pytest.fixture
def uploads(ledger, files):  # noqa: F811
    return Uploads(ledger.of(StoredFiles), files)


def begin(uploads, size=4):
    return uploads.begin(tenant="a", purpose="user_data", name="x", size=size, file_seconds=None)


def meanwhile(monkeypatch, files, then):  # noqa: F811
    """Once, while the parts of an upload are read to be completed, `then` happens."""
    whole = files.examine

    def examine(*args, **kwargs):
        monkeypatch.setattr(files, "examine", whole)
        then()
        return whole(*args, **kwargs)

    monkeypatch.setattr(files, "examine", examine)


def test_a_part_that_comes_while_its_upload_is_completed_is_removed(uploads, files, store, monkeypatch):  # noqa: F811
    row = begin(uploads)
    part, _ = uploads.add(row, [b"abcd"])
    meanwhile(monkeypatch, files, lambda: uploads.add(row, [b"late"]))
    file = uploads.complete(row, [part], None, lines=False)
    assert read(files, file.id) == b"abcd"
    assert len(store.objects(f"a/{row.id}")) == 1


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_an_upload_that_ends_while_it_is_completed_is_no_file(uploads, files, ledger, monkeypatch, how):  # noqa: F811
    row = begin(uploads)
    part, _ = uploads.add(row, [b"abcd"])

    def end():
        if how == "cancelled":
            uploads.cancel(row)
        else:
            monkeypatch.setattr("headrace_workers.files.store.files.clock", lambda _: row.expires_at + 1)
            files.expire()

    meanwhile(monkeypatch, files, end)
    with pytest.raises(NotPending, match=f"the upload {row.id} is {how}"):
        uploads.complete(row, [part], None, lines=False)
    assert ledger.of(StoredFiles).files("a") == []


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_parts_that_the_store_could_not_remove_are_removed_later(uploads, files, store, monkeypatch, how):  # noqa: F811
    row = begin(uploads)
    part, _ = uploads.add(row, [b"abcd"])
    uploads.add(row, [b"else"])

    def away(_path):
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store._filesystem, "rm_file", away)
        if how == "cancelled":
            uploads.cancel(row)
        else:
            file = uploads.complete(row, [part], None, lines=False)
        with pytest.raises(StoreUnavailable, match="away"):
            files.expire()
    assert len(store.objects(f"a/{row.id}")) == 2
    files.expire()
    if how == "completed":
        assert read(files, file.id) == b"abcd"
        files.remove(file.id)
    assert store.objects(f"a/{row.id}") == []


def test_an_upload_has_so_many_parts(uploads, ledger, monkeypatch):  # noqa: F811
    assert MOST_PARTS == 10_000
    monkeypatch.setattr("headrace_workers.files.uploads.MOST_PARTS", 2)
    row = begin(uploads)
    for _ in range(2):
        uploads.add(row, [b""])
    with pytest.raises(WrongUpload, match="data: 2 parts of this upload are there, which is the most: send larger"):
        uploads.add(row, [b""])
    assert len(ledger.of(StoredFiles).parts(row.id)) == 2


def test_a_tenant_has_so_many_uploads_pending_and_no_more(ledger, store):  # noqa: F811
    bounded = Uploads(ledger.of(StoredFiles), Files(ledger.of(StoredFiles), store, FileBounds(bytes=10, uploads=2)))
    first = begin(bounded)
    begin(bounded)
    with pytest.raises(TooManyFiles, match="2 uploads pending"):
        begin(bounded)
    bounded.cancel(first)
    with pytest.raises(TooManyFiles, match="10 may be kept"):
        begin(bounded, size=7)
    begin(bounded, size=6)
