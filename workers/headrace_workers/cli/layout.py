"""Rows as a table where they fit, and as records (a line a field) where they do not: whatever the terminal's width.

What people copy (an id, a URL, a path) is never broken: a column has room for it, and a record's line goes beyond the
terminal's width where it must, so that the terminal wraps it and still copies it whole.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_GAP = 2  # between two columns
_LEAST_TEXT = 12  # a narrower column of words is hard to read
_LEAST_CLIPPED = 16
_COPIED = re.compile(r"\S*[\d/:._@-]\S*")  # a word that may be an id, a URL or a path, and not prose


@dataclass(frozen=True, slots=True)
class Rows:
    """Something to print: a title, the names of the columns, and the cells, plain text all of them.

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
        kept = [place for place in range(len(self.columns)) if not self.rows or any(row[place] for row in self.rows)]
        rows = [[row[place] for place in kept] for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in kept], rows=rows)

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
        for place, cells in enumerate(self.rows):
            # Text, not markup: an answer with [brackets] is no instruction to the terminal.
            if place in self.uncut:
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
