"""Output of commands: data on standard output, words for people on standard error, and files as a whole."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import typer
from pydantic import BaseModel

from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.cli.durations import show_time

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_GAP = 2  # between two columns
_LEAST_TEXT = 12  # a narrower column of words is hard to read
_LEAST_CLIPPED = 16
_COPIED = re.compile(r"\S*[\d/:._@-]\S*")  # a word that may be an id, a URL or a path, and not prose
PLAIN_WIDTH = 100  # of a table that goes into a file or a pipe
# Characters that steer a terminal: all of C0 but tabs and line feeds, DEL, and C1.
_CONTROLS: Final = dict.fromkeys({*range(32), *range(127, 160)} - {9, 10}, "\N{REPLACEMENT CHARACTER}")


class NoSuchThing(HeadraceError):
    """A name of nothing that there is. The exit code of every command is 1 for it."""


def say(message: str) -> None:
    """Print a message for people, which may quote a model or a user."""
    sys.stderr.write(f"{without_controls(message)}\n")
    sys.stderr.flush()


def hush_kafka() -> None:
    """Silence kafka-python's log about an unreachable broker: our own errors say what matters."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def put(line: str) -> None:
    """Print one line of data."""
    sys.stdout.write(f"{line}\n")


def put_bytes(line: bytes) -> None:
    """Print one line of data that is bytes already, whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")


def put_json(value: Any) -> None:
    """Print a JSON document on one line."""
    put(json.dumps(value, ensure_ascii=False, default=str))


def put_view(view: BaseModel) -> None:
    """Print a read model as one JSON document on one line: what HTTP answers, too."""
    put_json(view.model_dump(mode="json"))


def flush() -> None:
    """Flush standard output, so that the next program in a pipe has it."""
    sys.stdout.flush()


def console(*, data: bool = False) -> "Console":
    """Return a rich console on standard error, or on standard output for data."""
    from rich.console import Console

    # `soft_wrap`: a word that is wider than the terminal is neither cut nor broken.
    made = Console(stderr=not data, highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made = Console(stderr=not data, highlight=False, soft_wrap=True, width=max(made.width, PLAIN_WIDTH))
    return made


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are printed as a table where they fit, and as records (a line a field) where they do not: a title, the
    names of the columns, and the cells, plain text all of them.

    An id, a URL or a path is never broken: a column has room for it, and a record's line goes beyond the terminal's
    width if it must, so that the terminal wraps it and still copies it whole.

    `right` names the columns of numbers, `whole` the columns that are never broken (ids), `clip` the columns that are
    cut to fit, except in the rows of the places `uncut`. Other columns break lines between words, and inside a word
    only if nobody would copy it.
    """

    title: str | None
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()
    whole: Collection[str] = ()
    clip: Collection[str] = ()
    uncut: Collection[int] = ()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        """Yield the lines for Rich."""
        widths = self.widths(options.max_width)
        narrower = self if widths else self._without_empty()
        if len(narrower.columns) < len(self.columns):
            yield narrower
        else:
            yield from self._table(widths) if widths else self._records()

    def _without_empty(self) -> "Rows":
        """Return these rows without the columns that are empty in every row."""
        kept = [index for index in range(len(self.columns)) if not self.rows or any(row[index] for row in self.rows)]
        rows = [[row[index] for index in kept] for row in self.rows]
        return replace(self, columns=[self.columns[index] for index in kept], rows=rows)

    def widths(self, width: int) -> list[int] | None:
        """Return the width of each column; None if they do not fit."""
        natural, least = [], []
        for number, name in enumerate(self.columns):
            lines = [line for row in self.rows for line in row[number].splitlines()]
            natural.append(max(map(_cells, [name, *lines])))
            bound = _LEAST_CLIPPED if name in self.clip else _LEAST_TEXT
            fixed = name in self.right or name in self.whole
            copied = 0 if name in self.clip else max((_cells(word) for word in _copied(lines)), default=0)
            least.append(natural[-1] if fixed else max(_cells(name), min(natural[-1], bound), copied))
        return share(natural, least, width - _GAP * (len(self.columns) - 1))

    def _table(self, widths: Sequence[int]) -> "Iterator[RenderableType]":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        drawn = Table(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False,
            padding=(0, _GAP - 1, 0, 0),
        )  # fmt: skip
        for name, width in zip(self.columns, widths, strict=True):
            drawn.add_column(
                name,
                justify="right" if name in self.right else "left",
                overflow="ellipsis" if name in self.clip else "fold",
                no_wrap=name in self.whole or name in self.clip,
                width=width,
            )
        for index, cells in enumerate(self.rows):
            # Text, not markup: an answer with [brackets] is no instruction to the terminal.
            if index in self.uncut:
                drawn.add_row(*(Text(cell, overflow="fold", no_wrap=False) for cell in cells))
            else:
                drawn.add_row(*map(Text, cells))
        yield drawn
        yield ""

    def _records(self) -> "Iterator[RenderableType]":
        if self.title:
            yield Line(self.title, style="italic")
        for cells in self.rows:
            for name, cell in zip(self.columns, cells, strict=True):
                if cell:
                    yield Line(cell, f"{name}: " if name else "")
            yield ""


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    clip: Sequence[str] = (),
    uncut: Sequence[int] = (),
) -> Rows:
    """Return a table whose cells are plain text, whatever they contain: see `Rows`."""
    return Rows(title, columns, [[printable(cell) for cell in cells] for cells in rows], right, whole, clip, uncut)


Column = str | Callable[[Any], object]  # a field of each row, or a function of the row


def put_list(
    rows: Sequence[Any],
    columns: Mapping[str, Column],
    nothing: str,
    *,
    as_json: bool,
    limit: int | None = None,
    which: str = "newest",
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    clip: Sequence[str] = (),
) -> None:
    """Print rows as JSON lines or as a table of these columns; say `nothing` if there is none.

    A row is a model of pydantic or a mapping; its JSON is the row as it is. A store that is asked for one row more than
    `limit` shows that there are more: that is said, too. See `Rows` for `right`, `whole` and `clip`.
    """
    shown = rows if limit is None else rows[:limit]
    if as_json:
        for row in shown:
            put_json(row.model_dump(mode="json") if isinstance(row, BaseModel) else row)
    elif shown:
        cells = [[_cell(column, row) for column in columns.values()] for row in shown]
        console(data=True).print(table(None, tuple(columns), cells, right=right, whole=whole, clip=clip))
    else:
        say(nothing)
    if len(rows) > len(shown):
        say(f"only the {limit} {which} are shown: --limit shows more")


def put_facts(row: Any, columns: Mapping[str, Column]) -> None:
    """Print one row as a table with a line for each column; the first column names the row."""
    (name, first), *others = columns.items()
    facts = [(heading, _cell(column, row)) for heading, column in others]
    console(data=True).print(table(None, (name, _cell(first, row)), facts))


def _cell(column: Column, row: Any) -> str:
    """Return a cell: numbers with commas, times in local time, lists in one line, and nothing for None."""
    if not isinstance(column, str):
        value = column(row)
    else:
        value = row[column] if isinstance(row, Mapping) else getattr(row, column)
        if column.endswith("_at"):
            return show_time(value)
    if isinstance(value, list | tuple):
        return ", ".join(value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def printable(text: str) -> str:
    """Return the text without control characters, so that a model's or a user's text cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def without_controls(text: str) -> str:
    """Return a text of many lines for people, without what would steer the terminal that it is shown on, now or later.
    All other characters stay.
    """
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def be_sure(question: str, otherwise: str, *, before: str = "") -> None:
    """Ask on the terminal. On no, say `otherwise` and exit with code 1.

    Raise ConfigurationError if there is no terminal; its message begins with `before`.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{before}there is no terminal to ask on: confirm with --yes")
    if not typer.confirm(question, err=True):
        say(otherwise)
        raise typer.Exit(1)


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


@dataclass(frozen=True, slots=True)
class Line:
    """Plain text that is broken between words alone. `name` stands before it, in bold."""

    text: str
    name: str = ""
    style: str = ""

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        """Yield the line for Rich."""
        from rich.text import Text

        lines = (line for part in (self.name + self.text).splitlines() for line in _filled(part, options.max_width))
        drawn = Text("\n".join(lines), style=self.style, no_wrap=True, overflow="ignore")
        drawn.stylize("bold", 0, len(self.name))
        yield drawn


def _filled(text: str, width: int) -> Iterator[str]:
    """Return lines of whole words, each as wide as fits; a word that is wider gets a line of its own."""
    line = ""
    for word in re.findall(r"\s*\S+", text):
        if line and _cells(line) + _cells(word) > width:
            yield line
            line = word.lstrip()
        else:
            line += word
    yield line


def _copied(lines: Iterable[str]) -> Iterator[str]:
    return (word for line in lines for word in _COPIED.findall(line))


def share(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Return the room of each: all that it wants, else its minimum and a part of the rest. None if there is too little
    room.
    """
    if sum(natural) <= room:
        return list(natural)
    spare = room - sum(least)
    if spare < 0:
        return None
    wants = [want - has for want, has in zip(natural, least, strict=True)]
    return [has + spare * want // sum(wants) for has, want in zip(least, wants, strict=True)]


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
