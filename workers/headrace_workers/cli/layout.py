"""Rows as a table where they fit, and as records (a line a field) where they do not: whatever the terminal's width."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_GAP = 2  # between two columns
_LEAST_TEXT = 12  # narrower than that nobody reads a column of words
_LEAST_CLIPPED = 16


@dataclass(frozen=True, slots=True)
class Rows:
    """Something to print: a title, the names of the columns, and the cells, plain text all of them.

    `right` names the columns of numbers, `whole` those that are never broken (ids), `clip` those that are cut to fit.
    """

    title: str | None
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()
    whole: Collection[str] = ()
    clip: Collection[str] = ()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        """For Rich."""
        widths = self.widths(options.max_width)
        yield from self._table(widths) if widths else self._records()

    def widths(self, width: int) -> list[int] | None:
        """The width of each column; None when they do not fit."""
        natural, least = [], []
        for number, name in enumerate(self.columns):
            lines = [line for row in self.rows for line in row[number].splitlines()]
            natural.append(max(map(_cells, [name, *lines])))
            bound = _LEAST_CLIPPED if name in self.clip else _LEAST_TEXT
            fixed = name in self.right or name in self.whole
            least.append(natural[-1] if fixed else max(_cells(name), min(natural[-1], bound)))
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
        for cells in self.rows:
            # Text, not markup: an answer with [brackets] is no instruction to the terminal.
            drawn.add_row(*map(Text, cells))
        yield drawn
        yield ""

    def _records(self) -> "Iterator[RenderableType]":
        from rich.text import Text

        if self.title:
            yield Text(self.title, style="italic")
        for cells in self.rows:
            for name, cell in zip(self.columns, cells, strict=True):
                if cell:
                    yield Text.assemble((f"{name}: " if name else "", "bold"), cell, overflow="fold")
            yield ""


def share(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """What each gets of the room: all that it wants, else its least and a part of the rest; None without room."""
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
