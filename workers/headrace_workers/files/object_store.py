"""Storage of files' bytes: a folder, or a URL that fsspec can reach. An object is written once, as a whole: under its
name there is all of it or nothing.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_workers.core.private_files import opened_privately, private_folder

_AT_ONCE = 8 * 1024**2  # bytes that are put by one call
_UNFINISHED = ".unfinished-"


class StoreUnavailable(Unavailable):
    """The file store did not do what it should: it is away, full, or does not let us in."""


class NoSuchObject(HeadraceError):
    """There is no object at a path: it was replaced, or its file was deleted."""


class Store:
    """Objects by their paths, which begin at the store's root. Thread-safe."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    @classmethod
    def at(cls, where: str) -> "Store":
        """The store at a path or URL; a folder is created. ConfigurationError when no such place can be reached from
        here, StoreUnavailable when it does not answer.
        """
        if "://" not in where:
            where = Path(where).absolute().as_uri()
        from fsspec.core import url_to_fs

        try:
            store = cls(*url_to_fs(where, **_options(where)))
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"HEADRACE_FILES is {without_secrets(where)!r}, which cannot be used: {error}; it may be a folder, or "
                "a URL that fsspec knows (s3://bucket/folder needs the extra `s3`)"
            ) from error
        except Exception as error:  # some connect at once, and each kind of store has errors of its own
            raise StoreUnavailable(
                f"the file store (HEADRACE_FILES) at {without_secrets(where)} cannot be reached: {_words(error)}; see "
                "that it runs and answers from this machine, or name another place"
            ) from error
        if store._is_local:
            try:
                private_folder(Path(store._root))
            except OSError as error:
                raise ConfigurationError(
                    f"HEADRACE_FILES is {store._root}, a folder that cannot be created: {error.strerror}; name a "
                    "folder that this user may write"
                ) from error
        return store

    @property
    def _is_local(self) -> bool:
        return "file" in _protocols(self._filesystem)

    def write(self, path: str, chunks: Iterable[bytes]) -> int:
        """Write an object; its size. StoreUnavailable: then there is none. Errors of `chunks` are passed on."""
        if self._is_local:
            return self._write_file(Path(self._full(path)), chunks)
        source = iter(chunks)
        head: list[bytes] = []
        while sum(map(len, head)) < _AT_ONCE and (chunk := next(source, None)) is not None:
            head.append(chunk)
        if sum(map(len, head)) < _AT_ONCE:
            whole = b"".join(head)
            with _translated(path):
                self._filesystem.pipe_file(self._full(path), whole)
            return len(whole)
        return self._write_large(path, chain(head, source))

    def _write_file(self, target: Path, chunks: Iterable[bytes]) -> int:
        """Nothing that fsspec has for this is safe when the power goes."""
        unfinished = target.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        size = 0
        with _translated(str(target)):
            private_folder(target.parent)
        try:
            with _opened(lambda: open(unfinished, "xb", opener=opened_privately), str(target)) as file:
                for chunk in chunks:
                    with _translated(str(target)):
                        file.write(chunk)
                    size += len(chunk)
                with _translated(str(target)):
                    file.flush()
                    os.fsync(file.fileno())
            with _translated(str(target)):
                unfinished.replace(target)
                _sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        return size

    def _write_large(self, path: str, chunks: Iterable[bytes]) -> int:
        folder, _, name = self._full(path).rpartition("/")
        unfinished = f"{folder}/{_UNFINISHED}{uuid.uuid4().hex}"
        size = 0
        try:
            with _opened(lambda: self._filesystem.open(unfinished, "wb"), path) as file:
                for chunk in chunks:
                    with _translated(path):
                        file.write(chunk)
                    size += len(chunk)
            with _translated(path):
                self._filesystem.mv(unfinished, f"{folder}/{name}")
        except BaseException:
            with contextlib.suppress(Exception):
                self._filesystem.rm_file(unfinished)
            raise
        return size

    def open(self, path: str) -> BinaryIO:
        """An object, to be read from any place in it. NoSuchObject, StoreUnavailable."""
        with _translated(path):
            return self._filesystem.open(self._full(path), "rb")  # type: ignore[no-any-return]

    def read(self, path: str) -> bytes:
        """All of an object. NoSuchObject, StoreUnavailable."""
        with _translated(path):
            return self._filesystem.cat_file(self._full(path))  # type: ignore[no-any-return]

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; skip objects that are gone already."""
        for path in paths:
            with contextlib.suppress(NoSuchObject), _translated(path):
                self._filesystem.rm_file(self._full(path))
            if self._is_local:
                with contextlib.suppress(OSError):  # there is more in it
                    Path(self._full(path)).parent.rmdir()

    def gone(self, paths: Iterable[str]) -> set[str]:
        """Return the paths among these without an object, as the store says itself. Raise StoreUnavailable."""
        with _translated("its folders"):
            self._filesystem.invalidate_cache()
        return {path for path in paths if not self._is_there(path)}

    def _is_there(self, path: str) -> bool:
        try:
            with _translated(path):
                self._filesystem.info(self._full(path))
        except NoSuchObject:
            return False
        return True

    def objects(self, folder: str) -> list[str]:
        """The paths of the objects in a folder, and of what was left unfinished there."""
        with _translated(folder):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.ls(self._full(folder), detail=False)
            except FileNotFoundError:
                return []
        return [f"{folder}/{str(name).rstrip('/').rpartition('/')[2]}" for name in found]

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"


def _protocols(filesystem: Any) -> tuple[str, ...]:
    known = filesystem.protocol
    return (known,) if isinstance(known, str) else tuple(known)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(open_it: Callable[[], Any], path: str) -> Iterator[Any]:
    """A file that is written; closing it, which may be what writes, is part of that."""
    with _translated(path):
        file = open_it()
    try:
        yield file
    except BaseException:
        with contextlib.suppress(Exception):
            file.close()
        raise
    with _translated(path):
        file.close()


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject(f"the file store (HEADRACE_FILES) has no {path}: it was deleted") from error
    except Exception as error:  # each kind of store has errors of its own
        raise StoreUnavailable(f"the file store (HEADRACE_FILES) failed at {path}: {_words(error)}") from error


def _options(where: str) -> dict[str, Any]:
    """Return what a kind of store is opened with. s3fs tries a call five times, and botocore each of these five times:
    from a store that says nothing an error would come after six minutes.
    """
    return {"config_kwargs": {"retries": {"total_max_attempts": 1}}} if where.startswith(("s3:", "s3a:")) else {}


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def without_secrets(where: str) -> str:
    """Return the path or URL of a store without the user, the password and the options in it."""
    return re.sub(r"//[^/]*@", "//", where).partition("?")[0]
