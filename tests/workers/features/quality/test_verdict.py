from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from headrace_workers.stats.comparison import Comparison, compare, verdicts
from headrace_workers.stats.estimates import Interval


def comparison(difference: float, half: float, p: float, items: int = 200) -> Comparison:
    return Comparison(
        difference, Interval(difference - half, difference + half, 0.95, "clustered t"), p, 1.4 * half, items, items, 50
    )


@pytest.mark.parametrize(
    ("found", "says", "words"),
    [
        (comparison(0.06, 0.04, 0.003), "better", "B is better by 0.06 ± 0.04"),
        (comparison(-0.06, 0.04, 0.003), "worse", "B is worse by 0.06 ± 0.04"),
        (comparison(0.01, 0.004, 0.001), "better", "B is better by 0.01 ± 0.004, less than the 0.02 that would matter"),
        (comparison(0.002, 0.01, 0.6), "same", "A and B differ by less than 0.02: 0.002 ± 0.01"),
        (comparison(-0.03, 0.052, 0.26), "unknown", "cannot tell: −0.03 ± 0.052; needs about 1,100 more items"),
    ],
)
def test_the_verdict_is_in_words(found, says, words):
    (verdict,) = verdicts([found], margin=0.02)
    assert (verdict.says, verdict.words) == (says, words)


def test_an_uneven_interval_shows_both_ends():
    found = comparison(-0.2, 0.1, 0.001)
    found = replace(found, interval=Interval(-0.35, -0.1, 0.95, "Dirichlet"))
    (verdict,) = verdicts([found], margin=0.02, names=[("int8", "int4")])
    assert verdict.words == "int4 is worse by 0.2 (0.1 to 0.35)"


def test_so_many_more_items_decide_in_four_of_five_runs():
    (verdict,) = verdicts([comparison(0.03, 0.05, 0.24)], margin=0.02)
    assert verdict.more_items is not None
    half = 0.05 * np.sqrt(200 / (200 + verdict.more_items))
    estimates = NormalDist(0.03, half / NormalDist().inv_cdf(0.975))
    assert 1 - estimates.cdf(half) == pytest.approx(0.8, abs=0.01)


def test_among_many_a_small_p_is_no_difference():
    found = verdicts([comparison(0.06, 0.05, 0.03)] * 5 + [comparison(0.06, 0.03, 0.001)], margin=0.02)
    assert [verdict.says for verdict in found] == ["unknown"] * 5 + ["better"]
    assert found[0].words == "cannot tell: 0.06 ± 0.05; with so many comparisons, chance alone may do that"
    assert found[5].p == pytest.approx(0.006)


def test_no_number_of_items_tells_nothing_from_nothing():
    """A difference of 0, and no margin within which it would do."""
    (verdict,) = verdicts([comparison(0.0, 0.05, 1.0)], margin=0.0)
    assert verdict.words.endswith("no number of items that can be had would tell")
    assert verdict.more_items is None


def test_real_scores_give_a_verdict():
    a, b = np.zeros(300), (np.arange(300) % 3 == 0).astype(float)
    found = compare(a, b)
    assert isinstance(found, Comparison)
    (verdict,) = verdicts([found], margin=0.02)
    assert verdict.words == "B is better by 0.33 ± 0.054"
