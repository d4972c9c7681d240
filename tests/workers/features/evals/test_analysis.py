import json
from pathlib import Path

import numpy as np
import pytest
from tests.workers.features.evals.runs import answered, dead, made, outcomes_of, receipts_of

from headrace_workers.features.evals.analysis import Gate, analyse, judge_gate, spread
from headrace_workers.features.evals.outcomes import Receipts, read_outcomes
from headrace_workers.features.evals.report import reason_lines
from headrace_workers.features.evals.run_file import WrongRun
from headrace_workers.stats.comparison import Comparison
from headrace_workers.stats.estimates import Estimate, Undefined


def test_both_variances_are_found() -> None:
    chance = np.random.default_rng(7)
    scores = chance.normal(0.5, 0.2, (4_000, 1)) + chance.normal(0.0, 0.1, (4_000, 4))
    scores[chance.random(scores.shape) < 0.2] = np.nan
    found = spread(scores)
    assert found is not None
    assert found.between == pytest.approx(0.04, rel=0.1)
    assert found.within == pytest.approx(0.01, rel=0.1)


def test_items_that_are_all_alike_differ_by_their_repeats_alone() -> None:
    noisy = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = spread(noisy)
    assert found is not None
    assert (found.between, found.within) == (0.0, 0.5)
    steady = spread(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert steady is not None
    assert (steady.between, steady.within) == (0.5, 0.0)


@pytest.mark.parametrize(
    "scores",
    [np.ones((5, 1)), np.full((5, 3), np.nan), np.array([[1.0, 0.0], [np.nan, np.nan]]), np.array([[1.0, np.nan]] * 4)],
)
def test_what_cannot_be_told_apart_is_not_told(scores: np.ndarray) -> None:
    assert spread(scores) is None


def rows(count: int) -> list[dict[str, str]]:
    return [{"q": f"question {number}", "d": f"document {number // 10}"} for number in range(count)]


def test_the_better_variant_is_named_with_its_interval(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(200))
    analysis = analyse(plan, outcomes_of(plan, lambda item, _, variant: (float(item % 5 < 2 + variant), 1.0)))
    first, second = analysis.compared
    assert first.words.startswith("B is better by 0.2 ± 0.05")
    assert (first.criterion, second.criterion, first.incomplete) == ("right", "json_valid", 0)
    assert second.words.startswith("A and B differ by less than 0.02")
    means = [score.mean.value for score in analysis.scores if isinstance(score.mean, Estimate)]
    assert means == [0.4, 0.6, 1.0, 1.0]
    assert isinstance(analysis.scores[0].mean, Estimate)
    assert analysis.scores[0].mean.interval.method == "Wilson"


def test_jobs_without_a_score_are_counted_and_bound_what_can_be_said(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(100))

    def scores(item: int, _: int, variant: int) -> tuple[float | str, ...] | None:
        if variant and item < 10:
            return None
        return ("the judge did not answer" if variant and item < 15 else 1.0, 1.0)

    outcomes = outcomes_of(plan, scores)
    analysis = analyse(plan, outcomes)
    a, b = analysis.scores[:2]
    assert isinstance(b.mean, Estimate)
    assert (b.mean.value, b.mean.n, b.failed, b.abstained, dict(b.reasons)) == (
        1.0, 85, 10, 5, {"unanswered": 5},
    )  # fmt: skip
    assert (b.bounds.low, b.bounds.high, a.bounds.low) == (0.85, 1.0, 1.0)
    compared = analysis.compared[0]
    assert isinstance(compared.comparison, Comparison)
    assert (compared.comparison.items, compared.incomplete, compared.bounds.low) == (85, 15, pytest.approx(-0.15))
    assert compared.words.endswith("15 items lack a score: the difference of all is −0.15 to +0")
    assert dict(analysis.costs[1].failures) == {"permanent at generate: too long": 10}
    assert list(reason_lines(analysis)) == [
        "B: 10 without an answer: permanent at generate: too long",
        "B: 5 without a score by right: unanswered",
    ]
    assert not judge_gate(Gate.parse("B >= A - 0.1", plan.run), plan, outcomes).passed


def test_repeats_of_an_item_are_one_row(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(30), "repeats = 10")
    analysis = analyse(plan, outcomes_of(plan, lambda item, repeat, _: ("no" if repeat else float(item % 2), 1.0)))
    assert isinstance(analysis.scores[0].mean, Estimate)
    assert (analysis.scores[0].mean.n, analysis.scores[0].mean.value) == (30, 0.5)
    assert analysis.scores[0].abstained == 270
    assert analysis.scores[0].bounds.low == pytest.approx(0.05)
    assert analysis.scores[0].spread is None
    assert analysis.compared[0].incomplete == 30
    assert analysis.compared[0].words.endswith("30 items lack a score: the difference of all is −0.9 to +0.9")


def test_items_of_one_cluster_vary_together(tmp_path: Path) -> None:
    alone, together = made(tmp_path, rows(100)), made(tmp_path, rows(100), 'cluster = "d"')
    widths = []
    for plan in (alone, together):
        outcomes = outcomes_of(plan, lambda item, _, variant: (float(variant and item // 10 % 2), 1.0))
        comparison = analyse(plan, outcomes).compared[0].comparison
        assert isinstance(comparison, Comparison)
        widths.append(comparison.interval.width)
        assert comparison.clusters == len({item.cluster or item.id for item in plan.dataset.items})
    assert widths[1] > 2 * widths[0]


def test_a_run_that_has_just_begun_says_so(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(20))
    analysis = analyse(plan, read_outcomes(plan, Receipts(b"", plan.jobs)))
    assert analysis.missing == 40
    assert isinstance(analysis.scores[0].mean, Undefined)
    assert analysis.compared[0].words == "no verdict yet: 40 jobs have no end, and it is given once"
    assert analysis.costs[0].total_s is None


def test_nothing_is_decided_before_all_jobs_have_ended(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(200))

    def receipts(lines: int) -> Receipts:
        content = [answered(line, (float(line % 2 == 0), 1.0)) for line in range(1, lines + 1)]
        return Receipts(b"".join(content), plan.jobs)

    for missing, decided in ((1, False), (0, True)):
        outcomes = read_outcomes(plan, receipts(plan.jobs - missing))
        (first, _), gate = analyse(plan, outcomes).compared, Gate.parse("B >= A", plan.run)
        assert first.words.startswith("B is better by 1" if decided else "no verdict yet: 1 job has no end")
        assert (first.verdict is not None) == judge_gate(gate, plan, outcomes).passed == decided


def test_nothing_to_compare_is_no_verdict(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(20))
    analysis = analyse(plan, outcomes_of(plan, lambda *_: None))
    assert analysis.compared[0].words == "cannot tell: no item has a score of both"


def test_the_last_receipt_of_a_line_holds_and_a_torn_one_is_none(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(1))
    content = dead(1) + answered(1, (1.0, 0.0)) + answered(99, (0.0, 0.0)) + answered(2, (0.0, 0.5))
    outcomes = read_outcomes(plan, Receipts(content, plan.jobs))
    assert outcomes.scores.reshape(2, 2).tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert outcomes.failures[0].total() == 0
    assert np.nansum(outcomes.total_ms) == 300.0


def test_a_gate_is_passed_only_if_it_surely_holds(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(200))
    outcomes = outcomes_of(plan, lambda item, _, variant: (float(item % 5 < 2 + variant), 1.0))
    told = {
        text: judge_gate(Gate.parse(text, plan.run), plan, outcomes)
        for text in ("B >= A + 0.1", "B >= A", "B >= A + 0.19", "B>=A", "A >= B - 0.5", "B >= A + 0.5")
    }
    assert [passed.passed for passed in told.values()] == [True, True, False, True, True, False]
    assert "cannot tell" in told["B >= A + 0.19"].words
    assert "cannot tell" not in told["B >= A + 0.5"].words


def test_a_score_belongs_to_the_criterion_of_its_name(tmp_path: Path) -> None:
    """An application has criteria of its own, whose scores come first."""
    plan = made(tmp_path, rows(2))

    def receipt(item: int, repeat: int, variant: int) -> bytes:
        told = json.loads(answered(plan.line_of(item, repeat, variant), (1.0, 0.0)))
        told["judge"]["scores"].insert(0, {"criterion": "length", "value": 0.5})
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"

    scores = read_outcomes(plan, receipts_of(plan, receipt)).scores
    assert scores.reshape(-1, 2).tolist() == [[1.0, 0.0]] * 4


def test_a_gate_may_be_about_one_variant_alone(tmp_path: Path) -> None:
    plan = made(tmp_path, rows(200))
    outcomes = outcomes_of(plan, lambda item, _, variant: None if item < 10 else (float(item % 10 < 8), 1.0))
    told = {
        text: judge_gate(Gate.parse(text, plan.run), plan, outcomes) for text in ("B >= 0.6", "B >= 0.8", "B >= .9")
    }
    assert [passed.passed for passed in told.values()] == [True, False, False]
    assert told["B >= 0.6"].words.startswith("gate B >= 0.6: passed; right: 0.76 (0.")
    assert ["cannot tell" in passed.words for passed in told.values()] == [False, True, False]


@pytest.mark.parametrize("failing", [0, 1])
def test_what_has_no_score_speaks_against_the_gate(tmp_path: Path, failing: int) -> None:
    plan = made(tmp_path, rows(200))
    lost = outcomes_of(plan, lambda item, _, variant: None if variant == failing and item < 20 else (0.5, 1.0))
    assert not judge_gate(Gate.parse("B >= A - 0.02", plan.run), plan, lost).passed
    whole = outcomes_of(plan, lambda *_: (0.5, 1.0))
    assert judge_gate(Gate.parse("B >= A - 0.02", plan.run), plan, whole).passed


@pytest.mark.parametrize("text", ["B > A", "B >= A 0.2", "B >= A - x", "", "B >= A -0.02 or so"])
def test_a_gate_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongRun, match=r"write it as 'B >= A - 0\.02'"):
        Gate.parse(text, made(tmp_path, rows(1)).run)


def test_a_gate_that_names_no_variant_is_refused(tmp_path: Path) -> None:
    """A name may have a hyphen, so that a sign needs a space."""
    with pytest.raises(WrongRun, match=r"names 'A-0\.02', and the variants are A, B"):
        Gate.parse("B >= A-0.02", made(tmp_path, rows(1)).run)
