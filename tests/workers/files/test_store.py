import io
import os
import socket
from contextlib import suppress
from itertools import repeat

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.files.object_store import NoSuchObject, Store, StoreUnavailable

MEGABYTE = 1024**2


def test_what_is_written_is_read(store):
    assert store.write("a/f/0", [b"one ", b"two"]) == 7
    assert store.read("a/f/0") == b"one two"
    with store.open("a/f/0") as file:
        file.seek(4)
        assert file.read() == b"two"


def test_what_is_large_is_written_in_parts(store):
    """Twenty megabytes come and go in chunks, and nothing else is left beside them."""
    assert store.write("a/f/0", repeat(b"x" * MEGABYTE, 20)) == 20 * MEGABYTE
    assert len(store.read("a/f/0")) == 20 * MEGABYTE
    assert store.objects("a/f") == ["a/f/0"]


@pytest.mark.parametrize("size", [1, 20])
def test_what_is_interrupted_leaves_nothing(store, size):
    def chunks():
        yield from repeat(b"x" * MEGABYTE, size)
        raise ValueError("the sender is gone")

    with pytest.raises(ValueError, match="the sender is gone"):
        store.write("a/f/0", chunks())
    assert store.objects("a/f") == []


def test_an_object_that_is_not_there_is_said_to_be_so(store):
    with pytest.raises(NoSuchObject):
        store.read("a/f/0")
    with pytest.raises(NoSuchObject):
        store.open("a/f/0").read()


def test_what_is_removed_is_gone(store):
    store.write("a/f/0", [b"x"])
    store.write("a/f/1", [b"y"])
    store.remove(["a/f/0", "a/f/0"])
    assert store.objects("a/f") == ["a/f/1"]
    store.remove(["a/f/1"])
    assert store.objects("a/f") == []


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"HEADRACE_FILES is .*/files, a folder that cannot be created"):
        Store.at(str(tmp_path / "files"))
    with pytest.raises(ConfigurationError, match="HEADRACE_FILES is /proc/nowhere/files, a folder that cannot be "):
        Store.at("/proc/nowhere/files")


def test_a_folder_that_was_lost_is_told(tmp_path):
    store = Store.at(str(tmp_path / "files"))
    (tmp_path / "files").rmdir()
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"HEADRACE_FILES.*Not a directory|HEADRACE_FILES.*File exists"):
        store.write("a/f/0", [b"x"])


def test_a_store_that_does_not_answer_is_named_without_its_secrets(monkeypatch):
    def never(filesystem):
        filesystem.ftp = io.BytesIO()  # closed at its end
        raise TimeoutError("timed out")

    monkeypatch.setattr("fsspec.implementations.ftp.FTPFileSystem._connect", never)
    with pytest.raises(StoreUnavailable) as told:
        Store.at("ftp://me:secret@files.example/folder")
    assert str(told.value).startswith(
        "the file store (HEADRACE_FILES) at ftp://files.example/folder cannot be reached: timed out; see that"
    )


@pytest.mark.integration
def test_an_s3_store_that_says_nothing_is_asked_five_times(monkeypatch):
    """Two libraries try again. Together they would ask 25 times, for six minutes."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
        for name, value in zip(names, ("a", "b", "c", f"http://127.0.0.1:{silent.getsockname()[1]}"), strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreUnavailable, match=r"\(HEADRACE_FILES\) failed at a/f/0: Read timeout on endpoint URL"):
            Store.at("s3://bucket/folder").read("a/f/0")
        silent.settimeout(0)
        asked = []
        with suppress(BlockingIOError):
            while True:
                asked.append(silent.accept()[0])
        for connection in asked:
            connection.close()
    assert len(asked) == 5


def test_a_url_that_cannot_be_used_is_shown_without_its_secrets():
    with pytest.raises(ConfigurationError) as told:
        Store.at("nowhere://me:secret@bucket/folder?token=secret")
    assert "'nowhere://bucket/folder'" in str(told.value)
    assert "it may be a folder, or a URL that fsspec knows" in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.integration
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("a small file system can be mounted by root only")
    try:
        store = Store.at(str(folder))
        with pytest.raises(StoreUnavailable, match="No space left"):
            store.write("a/f/0", repeat(b"x" * MEGABYTE, 4))
        assert store.objects("a/f") == []
        assert store.write("a/f/0", [b"small"]) == 5
    finally:
        os.system(f"umount {folder}")
