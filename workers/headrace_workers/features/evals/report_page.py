"""The report as a page: verdicts, plots, tables, and the first items side by side."""

from collections.abc import Sequence
from typing import Any, Final

from headrace_workers.cli import pages
from headrace_workers.cli.pages import Figure, Section, Table, page
from headrace_workers.features.evals import report as tables
from headrace_workers.features.evals.analysis import Analysis, Compared, Passed
from headrace_workers.features.evals.outcomes import Receipts
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.report import item_json
from headrace_workers.stats.comparison import Comparison
from headrace_workers.stats.estimates import Estimate

MOST_ITEMS: Final = 200
_MOST_FIELDS: Final = 2_000  # characters of a row, and of an answer


def report_page(plan: Plan, analysis: Analysis, gate: Passed | None, receipts: Receipts) -> str:
    """Return the whole page."""
    words = tables.verdict_lines(plan, analysis)
    if gate is not None:
        words = [gate.words, *words]
    if analysis.missing:
        words = [
            f"{analysis.missing:,} of {plan.jobs:,} jobs have not ended yet: this report covers the others.",
            *words,
        ]
    sections = [
        Section("What it says", words, _plots(plan, analysis)),
        Section("Scores", [_ON_SCORES], (), [Table(tables.SCORES, tables.score_rows(analysis), right=_NUMBERS)]),
    ]
    if analysis.compared:
        differences = Table(tables.DIFFERENCES, tables.difference_rows(analysis), right=_NUMBERS)
        sections.append(Section(f"Against {plan.run.variants[0].name}", [_ON_DIFFERENCES], (), [differences]))
    if analysis.people:
        people = Table(tables.PEOPLE, tables.people_rows(plan, analysis.people))
        sections.append(Section("What people say", [_ON_PEOPLE], (), [people]))
    sections += [
        Section("What it took", [_ON_TIMES], (), [Table(tables.COSTS, tables.cost_rows(analysis), right=_NUMBERS)]),
        Section("What is missing", (), (), [Table(tables.REASONS, tables.reason_rows(analysis), tall=True)]),
        _items(plan, receipts),
    ]
    return page(plan.run.name, tables.about(plan), _figures(plan, analysis, gate), sections)


_NUMBERS: Final = frozenset({
    "mean", "items", "failed", "abstained", "difference", "detectable", "p (Holm)", "without", "answered",
    "tokens read", "written", "p50", "p95", "in the model p50", "in the model p95", "cached",
})  # fmt: skip
_ON_SCORES: Final = (
    "An item's score is the mean over its repeats. Failed jobs have no answer, abstained ones an answer without a "
    "score; the column after them says where the mean of all items would be if each of those were 0, or 1. Spread is "
    "the standard deviation from item to item, and of one item from repeat to repeat."
)
_ON_DIFFERENCES: Final = (
    "Item by item, on the items that both have a score of. Detectable is the smallest true difference that a run of "
    "this size finds four times of five. p is corrected for all comparisons of the run (Holm)."
)
_ON_PEOPLE: Final = (
    "From people's labels of some answers and the judge's verdicts of all, whatever its errors are: these are in the "
    "interval. No judge can be shown to agree with people more than they agree among themselves (α)."
)
_ON_TIMES: Final = (
    "From acceptance to the receipt, waiting included; in the model: the time of the group that the job ran in."
)


def _figures(plan: Plan, analysis: Analysis, gate: Passed | None) -> list[Figure]:
    figures = [
        Figure(f"{score.mean.value:.3f}" if isinstance(score.mean, Estimate) else tables.NONE,
               f"{score.criterion}, {score.variant}")
        for score in analysis.scores if score.criterion == plan.run.primary
    ]  # fmt: skip
    missing = sum(cost.jobs - cost.statuses["completed"] for cost in analysis.costs)
    figures += [
        Figure(f"{len(plan.dataset.items):,}", "items"),
        Figure(f"{missing:,}", f"of {plan.jobs:,} jobs without an answer", None if not missing else False),
    ]
    if gate is not None:
        figures.insert(0, Figure("passed" if gate.passed else "not passed", "gate", gate.passed))
    return figures


def _plots(plan: Plan, analysis: Analysis) -> list[str]:
    drawn = []
    for criterion in dict.fromkeys(score.criterion for score in analysis.scores):
        spans = [
            pages.Span(score.variant, score.mean.value, score.mean.interval.low, score.mean.interval.high)
            for score in analysis.scores
            if score.criterion == criterion and isinstance(score.mean, Estimate)
        ]
        if spans:
            drawn.append(pages.intervals(criterion, pages.Axis("mean", 0.0, 1.0, pages.plain), spans))
        against = [item for item in analysis.compared if item.criterion == criterion]
        if compared := [_span(item) for item in against if item.verdict is not None]:
            wide = max(plan.run.margin, *(max(abs(span.low), abs(span.high)) for span in compared)) * 1.1
            axis = pages.Axis(f"better than {plan.run.variants[0].name} by", -wide, wide, pages.plain)
            marks = [pages.Mark(0.0, "the same"), pages.Mark(plan.run.margin, "margin")]
            drawn.append(pages.intervals(f"{criterion}: differences", axis, compared, down=marks))
    return drawn


def _span(each: Compared) -> pages.Span:
    assert isinstance(each.comparison, Comparison)  # noqa: S101 - asked by the caller
    of = each.comparison
    return pages.Span(f"{each.b} − {each.a}", of.difference, of.interval.low, of.interval.high)


def _items(plan: Plan, receipts: Receipts) -> Section:
    names = [variant.name for variant in plan.run.variants]
    shown = [item_json(plan, receipts, number) for number in range(min(MOST_ITEMS, len(plan.dataset.items)))]
    rows = [
        (entry["item"], _fields(entry["row"]), *(_answers(entry["variants"][name]) for name in names))
        for entry in shown
    ]
    total = len(plan.dataset.items)
    words = [f"The first {len(shown)} of {total:,}; the JSON report has all."] if total > len(shown) else []
    return Section("Items side by side", words, (), [Table(("item", "fields", *names), rows, tall=True)])


def _fields(row: dict[str, Any]) -> str:
    return _cut("; ".join(f"{name}: {value}" for name, value in row.items()))


def _answers(answers: Sequence[dict[str, Any]]) -> str:
    return " ‖ ".join(_answer(answer) for answer in answers)


def _answer(answer: dict[str, Any]) -> str:
    if answer["status"] != "completed":
        return _cut(f"({answer['reason']})")
    scores = ", ".join(f"{name} {_score(score)}" for name, score in answer["scores"].items())
    return f"{_cut(answer['text'] or '')} [{scores}]"


def _score(score: dict[str, Any]) -> str:
    value = score.get("value")
    return f"{value:.2f}" if value is not None else f"not judged: {_cut(str(score.get('reason')), 100)}"


def _cut(text: str, room: int = _MOST_FIELDS) -> str:
    return text if len(text) <= room else f"{text[:room]} … ({len(text) - room:,} more characters)"
