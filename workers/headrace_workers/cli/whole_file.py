"""Atomic replacement of a file: it has its old content or all of its new one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from headrace_schemas.errors import ConfigurationError


def write_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file as a whole, or leave the old one; return its size. A pipe or a device is written to directly."""
    with whole_file(path) as stream:
        return sum(stream.write(chunk) for chunk in chunks)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Replace a file with what is written here once all is written; if that fails, keep the old file.

    A pipe or a device is written to directly.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as stream:
                yield stream
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
