"""The report of a run: tables of text, Markdown, and JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from headrace_workers.features.evals.analysis import Analysis, Bounds, Compared, Cost, Passed, People, Scored
from headrace_workers.features.evals.outcomes import Receipts, failure_of, scores_of, status_of, text_of
from headrace_workers.features.evals.plan import Plan
from headrace_workers.stats.comparison import Comparison
from headrace_workers.stats.estimates import Estimate, Interval, Undefined
from headrace_workers.stats.ppi import Corrected

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
    return [_score(score) for score in analysis.scores]


def short_score_rows(analysis: Analysis) -> Cells:
    """Return a row for each criterion and variant as a terminal has room for: the interval without its method."""
    return [
        (criterion, variant, mean, interval.partition(",")[0], items)
        for criterion, variant, mean, interval, items, *_ in score_rows(analysis)
    ]


def difference_rows(analysis: Analysis) -> Cells:
    """Return a row for each comparison with the first variant."""
    return [_difference(compared) for compared in analysis.compared]


def cost_rows(analysis: Analysis) -> Cells:
    """Return a row for each variant."""
    return [_cost(cost) for cost in analysis.costs]


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
    names = [variant.name for variant in plan.run.variants]
    rows: list[tuple[str, ...]] = []
    for person in people:
        against = [f"{name} − {names[0]}" for name in names[1:]]
        known = (_estimate(person.agreement), _estimate(person.kappa), _estimate(person.among_people))
        for name, of in zip([*names, *against], [*person.means, *person.differences], strict=True):
            rows.append((person.criterion, name, *_corrected(of), *known))
    return rows


def verdict_lines(plan: Plan, analysis: Analysis) -> list[str]:
    """Return one sentence for each comparison; without one, the scores of the only variant."""
    if not analysis.compared:
        return [
            f"{score.criterion}: {score.variant} has {_mean(score)} ({_interval(score)})" for score in analysis.scores
        ]
    return [
        f"{compared.criterion}{' (primary)' if compared.criterion == plan.run.primary else ''}: {compared.words}"
        for compared in analysis.compared
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


def markdown(plan: Plan, analysis: Analysis, gate: Passed | None) -> str:
    """Return the whole report without the items."""
    parts = [f"# {_text(plan.run.name)}", _text(about(plan))]
    if analysis.missing:
        parts.append(
            f"**{analysis.missing:,} of {plan.jobs:,} jobs have not ended yet: this report covers the others.**"
        )
    if gate is not None:
        parts.append(f"**{_text(gate.words)}**")
    parts.append("\n".join(f"- {_text(line)}" for line in verdict_lines(plan, analysis)))
    parts += ["## Scores", _markdown_table(SCORES, score_rows(analysis))]
    if analysis.compared:
        parts += [
            f"## Against {plan.run.variants[0].name}",
            _markdown_table(DIFFERENCES, difference_rows(analysis)),
        ]
    if analysis.people:
        parts += ["## What people say", _markdown_table(PEOPLE, people_rows(plan, analysis.people))]
    parts += ["## What it took", _markdown_table(COSTS, cost_rows(analysis))]
    if missing := reason_rows(analysis):
        parts += ["## What is missing", _markdown_table(REASONS, missing)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(text: str) -> str:
    """Return the text in one line, escaped: a dataset or a model must not open a tag, cell or link."""
    plain = " ".join(text.split())
    for sign in ("\\", "|", "<", "[", "`", "*", "_"):
        plain = plain.replace(sign, f"\\{sign}")
    return plain


_MOST_REASONS_IN_JSON: Final = 20


def summary(plan: Plan, analysis: Analysis, gate: Passed | None) -> dict[str, Any]:
    """Return all of the report but the items. A number that is undefined is null, with its `reason`."""
    return {
        "name": plan.run.name,
        "identity": plan.identity,
        "dataset": str(plan.dataset.path),
        "dataset_sha256": plan.dataset.digest,
        "criteria_sha256": plan.pinned["criteria_sha256"],
        "items": len(plan.dataset.items),
        "repeats": plan.run.repeats,
        "jobs": plan.jobs,
        "without_end": analysis.missing,
        "primary": plan.run.primary,
        "margin": plan.run.margin,
        "level": plan.run.level,
        "gate": None if gate is None else asdict(gate),
        "comparisons": [_compared_json(compared) for compared in analysis.compared],
        "scores": [_scored_json(score) for score in analysis.scores],
        "people": [_people_json(plan, person) for person in analysis.people],
        "variants": [_cost_json(plan, place, cost) for place, cost in enumerate(analysis.costs)],
        "run": plan.pinned["run"],
    }


def report_lines(head: dict[str, Any], plan: Plan, receipts: Receipts) -> Iterator[bytes]:
    """Yield the whole report as one JSON document, with one item a line."""
    yield json.dumps(head, ensure_ascii=False, indent=1).encode()[:-2] + b',\n "answers": [\n'
    for number in range(len(plan.dataset.items)):
        comma = b",\n" if number else b""
        yield comma + json.dumps(item_json(plan, receipts, number), ensure_ascii=False, separators=(",", ":")).encode()
    yield b"\n]}\n"


def item_json(plan: Plan, receipts: Receipts, number: int) -> dict[str, Any]:
    """Return an item with the answers of each variant, repeat by repeat."""
    of = plan.dataset.items[number]
    return {
        "item": of.id,
        "line": of.line,
        "row": of.row,
        "variants": {
            variant.name: [
                _answer_json(plan, receipts.of(plan.line_of(number, repeat, place)))
                for repeat in range(plan.run.repeats)
            ]
            for place, variant in enumerate(plan.run.variants)
        },
    }


def _answer_json(plan: Plan, receipt: dict[str, Any] | None) -> dict[str, Any]:
    scores = scores_of(receipt)
    found: dict[str, Any] = {
        "job_id": (receipt or {}).get("job_id"),
        "status": status_of(receipt),
        "text": text_of(receipt),
        "scores": {name: scores[name] for name in plan.run.criterion_names if name in scores},
    }
    if (why := failure_of(receipt)) is not None:
        found["reason"] = why
    return found


def _compared_json(each: Compared) -> dict[str, Any]:
    found: dict[str, Any] = {"a": each.a, "b": each.b, "criterion": each.criterion, "words": each.words}
    if isinstance(each.comparison, Undefined) or each.verdict is None:
        found |= {"says": "unknown", "difference": None, "reason": each.words}
    else:
        of = each.comparison
        found |= {
            "says": each.verdict.says,
            "difference": of.difference,
            "interval": _interval_json(of.interval),
            "p": of.p,
            "p_holm": each.verdict.p,
            "detectable": of.detectable,
            "items": of.items,
            "clusters": of.clusters,
            "differing": of.discordant,
            "more_items": each.verdict.more_items,
        }
    return found | {"items_without_a_score": each.incomplete, "bounds": _bounds_json(each.bounds)}


def _scored_json(each: Scored) -> dict[str, Any]:
    found: dict[str, Any] = {"variant": each.variant, "criterion": each.criterion}
    if isinstance(each.mean, Estimate):
        found |= {"mean": each.mean.value, "interval": _interval_json(each.mean.interval), "items": each.mean.n}
    else:
        found |= {"mean": None, "reason": each.mean.reason, "items": 0}
    return found | {
        "bounds": _bounds_json(each.bounds),
        "failed": each.failed,
        "abstained": each.abstained,
        "variance": None if each.spread is None else asdict(each.spread),
        "abstained_because": dict(each.reasons.most_common(_MOST_REASONS_IN_JSON)),
    }


def _people_json(plan: Plan, each: People) -> dict[str, Any]:
    """Return people's results. A number that is undefined is an object with its `reason`."""
    names = [variant.name for variant in plan.run.variants]
    numbers = {"agreement": each.agreement, "kappa": each.kappa, "among_people": each.among_people}
    return {
        "criterion": each.criterion,
        "labels": each.labels,
        "people": each.people,
        **{name: asdict(value) for name, value in numbers.items()},
        "means": {name: asdict(of) for name, of in zip(names, each.means, strict=True)},
        "differences": {name: asdict(of) for name, of in zip(names[1:], each.differences, strict=True)},
    }


def _cost_json(plan: Plan, place: int, each: Cost) -> dict[str, Any]:
    return {
        "name": each.variant,
        "model": plan.run.variants[place].model,
        "application": plan.run.variants[place].application,
        "jobs": each.jobs,
        "statuses": each.statuses,
        "failed_because": dict(each.failures.most_common(_MOST_REASONS_IN_JSON)),
        "prompt_tokens": each.prompt_tokens,
        "completion_tokens": each.completion_tokens,
        "total_ms": _times_json(each.total_s),
        "generate_ran_ms": _times_json(each.ran_s),
        "from_the_cache": each.cached,
    }


def _times_json(seconds: tuple[float, float] | None) -> dict[str, float] | None:
    return None if seconds is None else {"p50": round(1000 * seconds[0], 1), "p95": round(1000 * seconds[1], 1)}


def _interval_json(of: Interval) -> dict[str, Any]:
    return {"low": of.low, "high": of.high, "level": of.level, "method": of.method}


def _bounds_json(of: Bounds) -> list[float]:
    return [of.low, of.high]
