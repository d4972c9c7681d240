"""A report as one page of HTML that needs nothing else: figures, tables and plots; `--html PAGE` writes it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.output import say, without_controls

HtmlOption = Annotated[Path | None, typer.Option("--html", metavar="PAGE", help="write a page with plots here")]
# The page has no scripts and loads nothing, whatever texts are in it.
_POLICY: Final = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'\">"
)
_WIDTH: Final = 440
_HEIGHT: Final = 250
_LEFT: Final = 46
_RIGHT: Final = 12
_TOP: Final = 14
_BOTTOM: Final = 44
# The page gives these classes colours for light and dark; each also differs by its dash or its place. The meaning of a
# mark is also its title, which a browser shows beside the pointer and reads aloud.
COLOURS: Final = ("one", "two", "three")

Text = Callable[[float], str]


def refuse_unwritable(html: Path | None) -> None:
    """Raise ConfigurationError if the page cannot be written, before minutes are spent on its content."""
    if html is not None and (html.is_dir() or not html.absolute().parent.is_dir()):
        raise ConfigurationError(f"{html} cannot be written: name a file in a folder that exists")


def write_page(html: Path, page: str) -> None:
    """Write the page. Raise ConfigurationError if that fails."""
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{html} cannot be written: {error.strerror}; choose another file") from error


def say_where(html: Path | None) -> None:
    """Say where the page lies."""
    if html is not None:
        say(f"the page: {html}")


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
    """A part of the page: words, plots (SVG) and tables."""

    title: str
    words: Sequence[str] = ()
    plots: Sequence[str] = ()
    tables: Sequence[Table] = field(default=())


def page(title: str, about: str, figures: Sequence[Figure], sections: Sequence[Section]) -> str:
    """Return the whole page. Only plots are taken as HTML; every text is escaped."""
    shown = "".join(_figure(figure) for figure in figures)
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
    words = "".join(f"<p>{escape(word)}</p>" for word in section.words)
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


@dataclass(frozen=True, slots=True)
class Line:
    """A line of points from left to right, with gaps at None. `upper` bounds each from above, as a band."""

    name: str
    points: Sequence[tuple[float, float | None]]
    upper: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on an axis that is worth a line across the plot."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """A value with its interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name, its ends, and how its numbers are written."""

    name: str
    low: float
    high: float
    text: Text

    def ticks(self, about: int = 5) -> list[float]:
        """Return round numbers within the axis."""
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def percent(value: float) -> str:
    """Return a share in percent, with as many digits as it needs."""
    shown = f"{100 * value:.1f}".rstrip("0").rstrip(".")
    return f"{shown} %"


def plain(value: float) -> str:
    """Return a number as it is."""
    return f"{value:g}"


def lines(
    title: str, x: Axis, y: Axis, drawn: Sequence[Line], *, across: Mark | None = None, down: Mark | None = None
) -> str:
    """Draw lines over a common axis. `across` is a bound on y, `down` a chosen value of x. Points outside the axes are
    cut.
    """
    plot = _Plot(x, y)
    parts = plot.frame()
    for colour, line in zip(COLOURS, drawn, strict=False):
        if line.upper:
            known = [(at, value, top) for (at, value), top in zip(line.points, line.upper, strict=True)
                     if value is not None]  # fmt: skip
            edge = [plot.point(at, top) for at, _, top in known] + [plot.point(at, v) for at, v, _ in reversed(known)]
            parts.append(f'<polygon class="band {colour}" points="{" ".join(edge)}"/>')
    for colour, line in zip(COLOURS, drawn, strict=False):
        there = [(at, value) for at, value in line.points if value is not None]
        parts.append(
            f'<polyline class="line {colour}" points="{" ".join(plot.point(at, value) for at, value in there)}"/>'
        )
        for at, value in there:
            tooltip = escape(f"{line.name}: {y.text(value)} at {x.text(at)}")
            parts.append(
                f'<circle class="dot {colour}" cx="{plot.across_at(at):.1f}" cy="{plot.up_at(value):.1f}" r="2.5">'
                f"<title>{tooltip}</title></circle>"
            )
    if across is not None:
        parts += plot.across(across)
    if down is not None:
        parts += plot.down(down)
    return _plot_figure(title, parts, [line.name for line in drawn])


def histogram(
    title: str, x: Axis, kinds: Sequence[tuple[str, Sequence[float]]], bins: int = 30, *, down: Mark | None = None
) -> str:
    """Draw the frequencies of two kinds of values: the first upwards, the second downwards, each as shares of its
    own.
    """
    width = (x.high - x.low) / bins
    shares = [_shares(values, x, bins) for _, values in kinds]
    most = max((share for kind in shares for share in kind), default=0.0) or 1.0
    low = -most if len(kinds) > 1 else 0.0
    plot = _Plot(x, Axis("share of each", low, most, lambda value: percent(abs(value))))
    parts = plot.frame()
    for colour, sign, (name, values), group in zip(COLOURS, (1, -1), kinds, shares, strict=False):
        for number, share in enumerate(group):
            if share:
                start = x.low + number * width
                left, right = plot.across_at(start), plot.across_at(start + width)
                high, base = plot.up_at(sign * share), plot.up_at(0)
                tooltip = escape(f"{name}: {percent(share)} of {len(values):,} from {start:.2f} to {start + width:.2f}")
                parts.append(
                    f'<rect class="bar {colour}" x="{left + 0.5:.1f}" y="{min(high, base):.1f}" '
                    f'width="{max(0.5, right - left - 1):.1f}" height="{abs(high - base):.1f}">'
                    f"<title>{tooltip}</title></rect>"
                )
    if down is not None:
        parts += plot.down(down)
    return _plot_figure(title, parts, [f"{name} ({len(values):,})" for name, values in kinds])


def columns(title: str, x: Axis, y: Axis, kinds: Sequence[tuple[str, Mapping[float, float]]]) -> str:
    """Draw columns of equal width, each with the values of several kinds on top of each other. The keys are where the
    columns begin on x; they are whole numbers.
    """
    plot = _Plot(x, y)
    parts = plot.frame()
    below: dict[float, float] = {}
    for colour, (name, values) in zip(COLOURS, kinds, strict=False):
        for start, value in values.items():
            base = below.get(start, 0.0)
            below[start] = base + value
            left, right = plot.across_at(start), plot.across_at(start + 1)
            high, low = plot.up_at(base + value), plot.up_at(base)
            tooltip = escape(f"{name}: {y.text(value)}, {x.text(start)}")
            parts.append(
                f'<rect class="bar {colour}" x="{left + 1:.1f}" y="{high:.1f}" width="{right - left - 2:.1f}" '
                f'height="{low - high:.1f}"><title>{tooltip}</title></rect>'
            )
    return _plot_figure(title, parts, [name for name, _ in kinds])


def intervals(title: str, x: Axis, spans: Sequence[Span], *, down: Sequence[Mark] = ()) -> str:
    """Draw values with their intervals along a common axis, one below the other, each with its name above it."""
    plot = _Plot(x, Axis("", 0.0, float(len(spans)), lambda _: ""))
    parts = plot.frame(rows=False)
    for number, span in enumerate(spans):
        up = plot.up_at(len(spans) - number - 0.6)
        ends = [(plot.across_at(end), end) for end in (span.low, span.high)]
        tooltip = escape(f"{span.name}: {span.value:.3g} ({span.low:.3g} to {span.high:.3g})")
        parts.append(
            f'<polyline class="line one" points="{" ".join(f"{at:.1f},{up:.1f}" for at, _ in ends)}"/>'
            f'<circle class="dot one" cx="{plot.across_at(span.value):.1f}" cy="{up:.1f}" r="4">'
            f"<title>{tooltip}</title></circle>"
            f'<text class="start marked" x="{_LEFT}" y="{up - 8:.1f}">{escape(span.name)}</text>'
        )
    for number, mark in enumerate(down):
        parts += plot.down(mark, number)
    return _plot_figure(title, parts, [])


@dataclass(frozen=True, slots=True)
class _Plot:
    x: Axis
    y: Axis

    def across_at(self, value: float) -> float:
        inside = min(self.x.high, max(self.x.low, value))
        return _LEFT + (inside - self.x.low) / (self.x.high - self.x.low) * (_WIDTH - _LEFT - _RIGHT)

    def up_at(self, value: float) -> float:
        inside = min(self.y.high, max(self.y.low, value))
        return _TOP + (self.y.high - inside) / (self.y.high - self.y.low) * (_HEIGHT - _TOP - _BOTTOM)

    def point(self, at: float, value: float) -> str:
        return f"{self.across_at(at):.1f},{self.up_at(value):.1f}"

    def frame(self, *, rows: bool = True) -> list[str]:
        """Return both axes with their numbers, and faint lines at the numbers of y. Without `rows` return the x axis
        alone."""
        parts = []
        for tick in self.y.ticks() if rows else ():
            up = self.up_at(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>')
            parts.append(f'<text class="end" x="{_LEFT - 6}" y="{up + 4:.1f}">{escape(self.y.text(tick))}</text>')
        for tick in self.x.ticks(6):
            at = self.across_at(tick)
            parts.append(f'<text class="middle" x="{at:.1f}" y="{_HEIGHT - 26}">{escape(self.x.text(tick))}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(f'<text class="middle name" x="{middle:.1f}" y="{_HEIGHT - 6}">{escape(self.x.name)}</text>')
        return parts

    def across(self, mark: Mark) -> list[str]:
        up = self.up_at(mark.value)
        return [
            f'<line class="mark" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>',
            f'<text class="end marked" x="{_WIDTH - _RIGHT}" y="{up - 4:.1f}">{escape(mark.name)}</text>',
        ]

    def down(self, mark: Mark, number: int = 0) -> list[str]:
        """Draw a vertical line. Each further line has its name below the ones before, since they may be near."""
        at = self.across_at(mark.value)
        side, shift = ("end", -4) if at > _WIDTH / 2 else ("start", 4)
        top = _TOP + 10 + 14 * number
        return [
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
            f'<text class="{side} marked" x="{at + shift:.1f}" y="{top}">{escape(mark.name)}</text>',
        ]


def _plot_figure(title: str, parts: Sequence[str], names: Sequence[str]) -> str:
    keys = "".join(
        f'<span class="key {colour}">{escape(name)}</span>' for colour, name in zip(COLOURS, names, strict=False)
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><p class="keys">{keys}</p>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _shares(values: Sequence[float], x: Axis, bins: int) -> list[float]:
    """Return the share of the values in each bin; values outside count in the outermost."""
    counts = [0] * bins
    for value in values:
        number = int((value - x.low) / (x.high - x.low) * bins)
        counts[min(bins - 1, max(0, number))] += 1
    return [count / len(values) for count in counts] if values else []


def _round_step(step: float) -> float:
    """Return the smallest of 1, 2, 5, 10, … that is at least this."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
