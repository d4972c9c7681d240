"""The report's tables as cells of text, for Markdown and for the page. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from headrace_workers.features.evals.analysis import Analysis, Bounds, Compared, Cost, Scored
from headrace_workers.features.evals.people_labels import People
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.quality.comparison import Comparison
from headrace_workers.features.quality.estimates import Estimate, Undefined
from headrace_workers.features.quality.ppi import Corrected

NONE: Final = "–"
_MOST_REASONS: Final = 10
SCORES: Final = (
    "criterion", "variant", "mean", "interval", "items", "failed", "abstained", "at worst to at best",
    "spread between, within",
)  # fmt: skip
SCORES_IN_SHORT: Final = ("criterion", "variant", "mean", "interval", "items")
DIFFERENCES: Final = ("criterion", "B − A", "difference", "interval", "detectable", "p (Holm)", "items", "without")
COSTS: Final = (
    "variant", "answered", "failed", "tokens read", "written", "p50", "p95", "in the model p50", "in the model p95",
    "cached",
)  # fmt: skip
REASONS: Final = ("variant", "what is missing", "how often", "why")
PEOPLE: Final = ("criterion", "of", "people would say", "from", "judge and people agree", "κ", "α among people")
Cells = Sequence[Sequence[str]]


def score_rows(analysis: Analysis) -> Cells:
    """Return a row for each criterion and variant."""
    return [_score(each) for each in analysis.scores]


def short_score_rows(analysis: Analysis) -> Cells:
    """Return a row for each criterion and variant as a terminal has room for: the interval without its method."""
    return [
        (criterion, variant, mean, interval.partition(",")[0], items)
        for criterion, variant, mean, interval, items, *_ in score_rows(analysis)
    ]


def difference_rows(analysis: Analysis) -> Cells:
    """Return a row for each comparison with the first variant."""
    return [_difference(each) for each in analysis.compared]


def cost_rows(analysis: Analysis) -> Cells:
    """Return a row for each variant."""
    return [_cost(each) for each in analysis.costs]


def reason_rows(analysis: Analysis) -> Cells:
    """Return the missing results with their reasons: answers first, then scores; the most frequent reasons of each."""
    rows = [
        (cost.variant, "answer", f"{times:,}", why)
        for cost in analysis.costs
        for why, times in cost.failures.most_common(_MOST_REASONS)
    ]
    return rows + [
        (scored.variant, f"score: {scored.criterion}", f"{times:,}", why)
        for scored in analysis.scores
        for why, times in scored.reasons.most_common(_MOST_REASONS)
    ]


def reason_lines(analysis: Analysis) -> Iterator[str]:
    """Yield the reasons in words."""
    for variant, what, times, why in reason_rows(analysis):
        lacking = "an answer" if what == "answer" else f"a score by {what.removeprefix('score: ')}"
        yield f"{variant}: {times} without {lacking}: {why}"


def people_rows(plan: Plan, people: Sequence[People]) -> Cells:
    """Return people's results: for each criterion a row for each variant, and for each difference from the first."""
    names = [each.name for each in plan.run.variants]
    rows: list[tuple[str, ...]] = []
    for each in people:
        against = [f"{name} − {names[0]}" for name in names[1:]]
        known = (_estimate(each.agreement), _estimate(each.kappa), _estimate(each.among_people))
        for name, of in zip([*names, *against], [*each.means, *each.differences], strict=True):
            rows.append((each.criterion, name, *_corrected(of), *known))
    return rows


def verdict_lines(plan: Plan, analysis: Analysis) -> list[str]:
    """Return one sentence for each comparison; without one, the scores of the only variant."""
    if not analysis.compared:
        return [f"{each.criterion}: {each.variant} has {_mean(each)} ({_interval(each)})" for each in analysis.scores]
    return [
        f"{each.criterion}{' (primary)' if each.criterion == plan.run.primary else ''}: {each.words}"
        for each in analysis.compared
    ]


def about(plan: Plan) -> str:
    """Return a line about the run."""
    run = plan.run
    repeats = f" × {run.repeats} repeats" if run.repeats > 1 else ""
    return (
        f"{len(plan.dataset.items):,} items × {len(run.variants)} variants{repeats}; run {plan.identity[:12]}, "
        f"dataset {plan.dataset.path.name} (sha256 {plan.dataset.digest[:12]}), criteria "
        f"(sha256 {str(plan.pinned['criteria_sha256'])[:12]}); primary criterion {run.primary}, margin {run.margin:g}, "
        f"intervals at {run.level:.0%}"
    )


def _score(each: Scored) -> tuple[str, ...]:
    items = f"{each.mean.n:,}" if isinstance(each.mean, Estimate) else "0"
    bounds = _bounds(each.bounds) if each.failed or each.abstained else NONE
    return (
        each.criterion, each.variant, _mean(each), _interval(each), items, f"{each.failed:,}", f"{each.abstained:,}",
        bounds, _spread(each),
    )  # fmt: skip


def _spread(each: Scored) -> str:
    """Return the standard deviations between items, and within one."""
    of = each.spread
    return NONE if of is None else f"{of.between**0.5:.3f}, {of.within**0.5:.3f}"


def _difference(each: Compared) -> tuple[str, ...]:
    head = (each.criterion, f"{each.b} − {each.a}")
    if not isinstance(each.comparison, Comparison) or each.verdict is None:
        return (*head, NONE, NONE, NONE, NONE, "0", f"{each.incomplete:,}")
    of = each.comparison
    return (
        *head, signed(of.difference), f"{signed(of.interval.low)} to {signed(of.interval.high)}, {of.interval.method}",
        f"{of.detectable:.3f}", f"{each.verdict.p:.3g}", f"{of.items:,}", f"{each.incomplete:,}",
    )  # fmt: skip


def _cost(each: Cost) -> tuple[str, ...]:
    failed = each.jobs - each.statuses["completed"]
    return (
        each.variant, f"{each.statuses['completed']:,} of {each.jobs:,}", f"{failed:,}", f"{each.prompt_tokens:,}",
        f"{each.completion_tokens:,}", *_times(each.total_s), *_times(each.ran_s), f"{each.cached:,}",
    )  # fmt: skip


def _corrected(of: Corrected | Undefined) -> tuple[str, str]:
    if isinstance(of, Undefined):
        return NONE, of.reason
    alone = "" if of.reason is None else f" alone: {of.reason}"
    text = f"{of.value:.3f} ({of.interval.low:.3f} to {of.interval.high:.3f})".replace("-", "−")
    return text, f"{of.n_human:,} labels{alone}" if alone else f"{of.n_human:,} labels, {of.n_machine:,} verdicts"


def _estimate(of: Estimate | Undefined) -> str:
    return f"{of.value:.2f} ({of.interval.low:.2f} to {of.interval.high:.2f})" if isinstance(of, Estimate) else NONE


def _times(seconds: tuple[float, float] | None) -> tuple[str, str]:
    return (NONE, NONE) if seconds is None else (f"{seconds[0]:.2f} s", f"{seconds[1]:.2f} s")


def _mean(each: Scored) -> str:
    return f"{each.mean.value:.3f}" if isinstance(each.mean, Estimate) else NONE


def _interval(each: Scored) -> str:
    if not isinstance(each.mean, Estimate):
        return each.mean.reason
    of = each.mean.interval
    return f"{of.low:.3f} to {of.high:.3f}, {of.method}"


def _bounds(of: Bounds) -> str:
    return f"{of.low:.3f} to {of.high:.3f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.3f}".replace("-", "−")
