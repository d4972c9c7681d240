"""Standard streams that fail in words: a full disk, a size limit, a reader that has gone, or no stream at all.

All that is printed goes through these, also what Typer and Rich print: no command has to think of it.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class OutputFailed(HeadraceError):
    """A write to standard output that failed."""

    category = Category.TRANSIENT


class ReaderGone(OutputFailed):
    """The end of standard output's reader, such as `head`. It is not an error to report."""


class _Out(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise ReaderGone("nobody reads standard output any more") from None
        except OSError as error:
            raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None


class _Err(io.FileIO):
    def write(self, data: Any) -> int:
        """Write, and drop what cannot be written: no work ends for it."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def guard() -> None:
    """Put these in the place of Python's. Call it before anything is printed."""
    for number, mode in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        _occupy(number, mode)
    sys.stdin = sys.stdin or open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as we do
    sys.stdout = _text(_Out(_STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Err(_STDERR, "w", closefd=False), sys.stderr, line_buffering=True)


@contextlib.contextmanager
def shown_or(undo: Callable[[], object]) -> Iterator[None]:
    """Undo the work if the block cannot print a secret, which is shown only this once."""
    try:
        yield
        sys.stdout.flush()
    except OutputFailed as error:
        silence()
        undo()
        if isinstance(error, ReaderGone):
            raise
        raise OutputFailed(f"{error}: the secret was shown to nobody, and nothing was changed") from None


def finish() -> None:
    """Flush standard output. Raise OutputFailed or ReaderGone; nothing is tried again at the exit."""
    try:
        sys.stdout.flush()
    except OutputFailed:
        silence()
        raise


def silence() -> None:
    """Discard what is still in standard output's buffer."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.close(nowhere)


def _occupy(number: int, mode: int) -> None:
    """Open the null device for a stream that the caller closed (`>&-`); else the next open file would become it."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, mode)  # writing to a closed stream stays an error; reading from it yields nothing
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


def _text(raw: io.FileIO, before: Any, *, line_buffering: bool | None = None) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        # A terminal that knows few characters shows marks for the rest, and ends no command.
        errors="backslashreplace",
        line_buffering=raw.isatty() if line_buffering is None else line_buffering,
    )


@contextlib.contextmanager
def standard_input(most: int, name: str = "standard-input") -> Iterator[Path]:
    """Yield a file of this name with what standard input gives, while the body runs: a container sees no file of its
    host. Raise ConfigurationError for more than so many bytes. Errors of the body name standard input, not the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with path.open("wb") as file:
            size = 0
            while chunk := sys.stdin.buffer.read(min(1 << 20, most + 1 - size)):
                size += file.write(chunk)
        if size > most:
            raise ConfigurationError(f"standard input has more than {most:,} bytes: shorten it")
        try:
            yield path
        except HeadraceError as error:
            error.args = (str(error).replace(str(path), "standard input"),)
            raise
