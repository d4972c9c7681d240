"""The quality page: verdicts against people's labels, drawn. Pure."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.cli.pages import plots
from headrace_workers.cli.pages.page import Section, Table, page
from headrace_workers.features.quality.commands import quality_views as views
from headrace_workers.features.quality.reliability import Reliability

_TITLE: Final = "How far verdicts can be trusted"
_ABOUT: Final = (
    "Points: verdicts of about the same score, and the share that people found correct. On the diagonal scores mean "
    "what they say; points far from it by chance alone are few where the ECE is near what chance would make."
)
_TRUE: Final = plots.Line("a score that means what it says", ((0.0, 0.0), (1.0, 1.0)))


def quality_page(found: Sequence[views.Found]) -> str:
    """Return an HTML page with a part for each criterion and category."""
    return page(_TITLE, _ABOUT, (), [_section(each) for each in found])


def _section(found: views.Found) -> Section:
    _, _, of = found
    title, *words = [line.strip() for line in views.words(*found)]
    columns, row = views.cells(*found)
    tables, drawn = [Table(columns, [row])], []
    if isinstance(of.reliability, Reliability):
        drawn.append(_diagram(of.reliability))
        tables.append(_points(of.reliability))
    return Section(title.rstrip(":"), words, drawn, tables)


def _diagram(of: Reliability) -> str:
    """Draw the stated P(correct) against what people found."""
    axis = plots.Axis("P(correct), as it was said", 0.0, 1.0, plots.percent)
    seen = plots.Axis("found correct", 0.0, 1.0, plots.percent)
    points = [(each.said, each.seen.value) for each in of.points]
    return plots.lines("Reliability", axis, seen, [plots.Line("found correct", points), _TRUE])


def _points(of: Reliability) -> Table:
    rows = [
        (f"{each.said:.2f}", f"{each.seen.value:.2f}", f"{each.seen.interval.low:.2f} to {each.seen.interval.high:.2f}")
        for each in of.points
    ]
    return Table(("said", "found correct", "interval"), rows, right=("said", "found correct"))
