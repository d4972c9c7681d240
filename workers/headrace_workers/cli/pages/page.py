"""A report as one page of HTML that needs nothing else: figures, plots, tables; for light and dark, wide and narrow."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from headrace_workers.cli.output import without_controls

# The page has no scripts and loads nothing, whatever texts are in it.
_POLICY: Final = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'\">"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that is to be seen first. `good` colours it; None leaves it as it is."""

    value: str
    name: str
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text. `right` names the columns of numbers, `chosen` the rows that stand out.

    A `tall` table becomes a list of fields where the window is narrow; others scroll.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()
    chosen: Collection[int] = ()
    tall: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: words, plots (from `plots.py`) and tables."""

    title: str
    words: Sequence[str] = ()
    plots: Sequence[str] = ()
    tables: Sequence[Table] = field(default=())


def page(title: str, about: str, figures: Sequence[Figure], sections: Sequence[Section]) -> str:
    """Return the whole page. Only plots are taken as HTML; every text is escaped."""
    shown = "".join(_figure(each) for each in figures)
    whole = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_POLICY}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="faint">{escape(about)}</p><div class="figures">{shown}</div>'
        f"{''.join(map(_section, sections))}</main></body></html>\n"
    )
    return without_controls(whole)


@cache
def _style() -> str:
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


def _figure(figure: Figure) -> str:
    state = "" if figure.good is None else ' class="good"' if figure.good else ' class="bad"'
    return f"<div><b{state}>{escape(figure.value)}</b><span>{escape(figure.name)}</span></div>"


def _section(section: Section) -> str:
    words = "".join(f"<p>{escape(each)}</p>" for each in section.words)
    plots = f'<div class="plots">{"".join(section.plots)}</div>' if section.plots else ""
    return f"<section><h2>{escape(section.title)}</h2>{words}{plots}{''.join(map(_table, section.tables))}</section>"


def _table(table: Table) -> str:
    if not table.rows:
        return "<p>None.</p>"
    sides = ['class="right"' if name in table.right else "" for name in table.columns]
    head = "".join(f"<th {side}>{escape(name)}</th>" for name, side in zip(table.columns, sides, strict=True))
    body = "".join(_row(table, sides, number, cells) for number, cells in enumerate(table.rows))
    kind = ' class="tall"' if table.tall else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(table: Table, sides: Sequence[str], number: int, cells: Sequence[str]) -> str:
    inner = "".join(
        f'<td {side} data-name="{escape(name)}">{escape(cell)}</td>'
        for name, side, cell in zip(table.columns, sides, cells, strict=True)
    )
    stands_out = ' class="chosen"' if number in table.chosen else ""
    return f"<tr{stands_out}>{inner}</tr>"
