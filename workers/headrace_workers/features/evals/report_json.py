"""The report as JSON: everything that the analysis says, and behind it every item, written one at a time."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from headrace_workers.features.evals.analysis import Analysis, Bounds, Compared, Cost, Scored
from headrace_workers.features.evals.gate import Passed
from headrace_workers.features.evals.people_labels import People
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.receipts import Receipts, failure_of, status_of, text_of
from headrace_workers.features.quality.estimates import Estimate, Interval, Undefined

_MOST_REASONS: Final = 20


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
        "comparisons": [_compared(each) for each in analysis.compared],
        "scores": [_scored(each) for each in analysis.scores],
        "people": [_people(plan, each) for each in analysis.people],
        "variants": [_cost(plan, place, each) for place, each in enumerate(analysis.costs)],
        "run": plan.pinned["run"],
    }


def report_lines(head: dict[str, Any], plan: Plan, receipts: Receipts) -> Iterator[bytes]:
    """Yield the whole report as one JSON document, with one item a line."""
    yield json.dumps(head, ensure_ascii=False, indent=1).encode()[:-2] + b',\n "answers": [\n'
    for number in range(len(plan.dataset.items)):
        comma = b",\n" if number else b""
        yield comma + json.dumps(item(plan, receipts, number), ensure_ascii=False, separators=(",", ":")).encode()
    yield b"\n]}\n"


def item(plan: Plan, receipts: Receipts, number: int) -> dict[str, Any]:
    """Return an item with the answers of each variant, repeat by repeat."""
    of = plan.dataset.items[number]
    return {
        "item": of.id,
        "line": of.line,
        "row": of.row,
        "variants": {
            variant.name: [
                _answer(plan, receipts.of(plan.line_of(number, repeat, place))) for repeat in range(plan.run.repeats)
            ]
            for place, variant in enumerate(plan.run.variants)
        },
    }


def _answer(plan: Plan, receipt: dict[str, Any] | None) -> dict[str, Any]:
    scores = ((receipt or {}).get("judge") or {}).get("scores", ())
    found: dict[str, Any] = {
        "job_id": (receipt or {}).get("job_id"),
        "status": status_of(receipt),
        "text": text_of(receipt),
        "scores": dict(zip(plan.run.criterion_names, scores, strict=False)),
    }
    if (why := failure_of(receipt)) is not None:
        found["reason"] = why
    return found


def _compared(each: Compared) -> dict[str, Any]:
    found: dict[str, Any] = {"a": each.a, "b": each.b, "criterion": each.criterion, "words": each.words}
    if isinstance(each.comparison, Undefined) or each.verdict is None:
        found |= {"says": "unknown", "difference": None, "reason": each.words}
    else:
        of = each.comparison
        found |= {
            "says": each.verdict.says,
            "difference": of.difference,
            "interval": _interval(of.interval),
            "p": of.p,
            "p_holm": each.verdict.p,
            "detectable": of.detectable,
            "items": of.items,
            "clusters": of.clusters,
            "differing": of.discordant,
            "more_items": each.verdict.more_items,
        }
    return found | {"items_without_a_score": each.incomplete, "bounds": _bounds(each.bounds)}


def _scored(each: Scored) -> dict[str, Any]:
    found: dict[str, Any] = {"variant": each.variant, "criterion": each.criterion}
    if isinstance(each.mean, Estimate):
        found |= {"mean": each.mean.value, "interval": _interval(each.mean.interval), "items": each.mean.n}
    else:
        found |= {"mean": None, "reason": each.mean.reason, "items": 0}
    return found | {
        "bounds": _bounds(each.bounds),
        "failed": each.failed,
        "abstained": each.abstained,
        "variance": None if each.spread is None else asdict(each.spread),
        "abstained_because": dict(each.reasons.most_common(_MOST_REASONS)),
    }


def _people(plan: Plan, each: People) -> dict[str, Any]:
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


def _cost(plan: Plan, place: int, each: Cost) -> dict[str, Any]:
    return {
        "name": each.variant,
        "model": plan.run.variants[place].model,
        "jobs": each.jobs,
        "statuses": each.statuses,
        "failed_because": dict(each.failures.most_common(_MOST_REASONS)),
        "prompt_tokens": each.prompt_tokens,
        "completion_tokens": each.completion_tokens,
        "total_ms": _times(each.total_s),
        "generate_ran_ms": _times(each.ran_s),
        "from_the_cache": each.cached,
    }


def _times(seconds: tuple[float, float] | None) -> dict[str, float] | None:
    return None if seconds is None else {"p50": round(1000 * seconds[0], 1), "p95": round(1000 * seconds[1], 1)}


def _interval(of: Interval) -> dict[str, Any]:
    return {"low": of.low, "high": of.high, "level": of.level, "method": of.method}


def _bounds(of: Bounds) -> list[float]:
    return [of.low, of.high]
