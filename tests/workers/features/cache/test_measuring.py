"""What the cache would serve at which threshold, and how well a verifier tells pairs apart."""

import numpy as np
import pytest
from tests.workers.features.judging.judge_model import JudgeModel

from headrace_workers.features.cache.guards.refusal import Refusal
from headrace_workers.features.cache.measuring import (
    Judged,
    LabelledPair,
    clusters,
    judge,
    lowest_shown,
    measure_verifier,
    swept,
    upper_bound,
    upper_bounds,
)
from headrace_workers.models.verifiers.verify_stage import ModelVerifier
from headrace_workers.stats.binomial import clopper_pearson_upper

ODD = Refusal("odd", "one is odd")


def pair(number: int, same: bool) -> LabelledPair:
    """A pair that shares no question with others."""
    return LabelledPair(number, f"q{number}", f"o{number}", same)


def judged(*each: tuple[float, bool, Refusal | None]) -> list[Judged]:
    return [Judged(pair(number, same), cosine, why) for number, (cosine, same, why) in enumerate(each)]


MIXED = judged((0.95, True, None), (0.95, False, None), (0.95, False, ODD), (0.95, True, ODD), (0.75, True, None))


def test_a_pair_has_its_cosine_and_its_guard() -> None:
    said: list[list[str]] = []
    table = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [1.0, 0.0]}

    def embed(texts: list[str]) -> np.ndarray:
        said.append(texts)
        return np.array([table[text] for text in texts], np.float32)

    told: list[int] = []
    found = judge(
        [LabelledPair(1, "a", "b", True), LabelledPair(2, "b", "a", False), LabelledPair(3, "c", "a", True)],
        embed,
        lambda asked, known: ODD if (asked, known) == ("a", "b") else None,
        told.append,
    )
    assert (said, sum(told)) == ([["a", "b", "c"]], 3)
    assert [item.similarity for item in found] == pytest.approx([0.6, 0.6, 1.0])
    assert [item.refusal for item in found] == [ODD, None, None]


def test_served_is_what_is_near_and_not_refused() -> None:
    high, low = swept(MIXED, [0.9, 0.7])
    assert (high.threshold, high.served, high.wrong, high.hits) == (0.9, 2, 1, 1)
    assert (high.hit_share, high.wrong_share) == (1 / 3, 0.5)
    assert (low.served, low.hit_share) == (3, 2 / 3)
    assert high.wrong_share < high.at_most <= high.together


def test_where_nothing_is_served_there_is_no_share() -> None:
    (none,) = swept(judged((0.5, False, None)), [0.9])
    assert (none.hit_share, none.wrong_share, none.at_most) == (None, None, 1.0)
    with pytest.raises(ValueError, match="no pairs"):
        swept([])


def test_pairs_that_share_a_question_are_one_cluster() -> None:
    found = clusters([LabelledPair(1, *texts, True) for texts in (("a", "b"), ("c", "d"), ("b", "e"), ("e", "x"))])
    assert found == [0, 1, 0, 0]
    together = [Judged(LabelledPair(n, "same", f"o{n}", n > 0), 0.95, None) for n in range(99)]
    apart = [Judged(pair(n, n > 0), 0.95, None) for n in range(99)]
    assert swept(together + judged(*[(0.95, True, None)] * 99), [0.9])[0].at_most >= (
        swept(apart, [0.9])[0].at_most / 2
    )


@pytest.mark.integration
def test_a_threshold_is_shown_only_where_the_bound_holds_for_all_at_once() -> None:
    clean = judged(*[(0.97, True, None)] * 1_000, *[(0.85, False, None)] * 100, *[(0.75, True, None)] * 20_000)
    shown = lowest_shown(swept(clean, [0.7, 0.8, 0.9, 0.95]), 0.01)
    assert shown is not None
    assert (shown.threshold, shown.served) == (0.9, 1_000)
    assert lowest_shown(swept(judged(*[(0.97, True, None)] * 299), [0.7, 0.9]), 0.01) is None


def test_what_fails_by_itself_has_clopper_and_pearsons_bound() -> None:
    assert upper_bound([(0, 1)] * 299) == pytest.approx(0.01, abs=1e-4)
    assert upper_bound([(number % 100 == 0, 1) for number in range(1_000)]) >= clopper_pearson_upper(10, 1_000, 0.05)


def test_what_fails_together_has_a_wider_one() -> None:
    assert upper_bound([(100, 100)] + [(0, 100)] * 9) > upper_bound([(10, 100)] * 10) + 0.1


def test_of_nothing_all_may_be_wrong() -> None:
    assert upper_bound([]) == 1.0
    wrong, of = np.array([[0.0, 0.0]]), np.array([[0.0, 299.0]])
    assert upper_bounds(wrong, of) == [1.0, pytest.approx(0.01, abs=1e-4)]


def test_a_stricter_level_has_a_wider_bound() -> None:
    assert upper_bound([(0, 1)] * 299, alpha=0.05 / 30) > 0.02


"""The error of a verifier on labelled pairs, and the refusal of one that is no better than chance."""

PAIRS = [
    LabelledPair(n, f"question {n} {'same' if n % 2 else 'other'}", f"known {n}", bool(n % 2)) for n in range(1, 81)
]


def verifier(answer):
    return ModelVerifier(JudgeModel(lambda prompt, choices: answer(prompt[-1].content)))


def test_one_that_tells_them_apart_is_measured_as_such():
    """Its AUROC is 1, and it confirms all that is the same and nothing else."""
    quality = measure_verifier(verifier(lambda text: (0.9, 0, 0.1, 0) if "same\n" in text else (0.1, 0, 0.9, 0)), PAIRS)
    assert (quality.auroc, quality.low, quality.high, quality.is_chance) == (1.0, 1.0, 1.0, False)
    assert (quality.pairs, quality.silent, quality.confirmed, quality.wrongly) == (80, 0, 1.0, 0.0)


@pytest.mark.parametrize("answer", [(0.9, 0, 0.1, 0), (0, 0, 0, 0)])
def test_one_that_says_the_same_of_all_is_chance(answer):
    quality = measure_verifier(verifier(lambda text: answer), PAIRS)
    assert (quality.auroc, quality.is_chance) == (0.5, True)
    assert quality.confirmed == quality.wrongly == (1.0 if answer[0] else 0.0)


def test_one_that_denies_all_is_refused_however_well_it_orders():
    quality = measure_verifier(verifier(lambda text: (0.2, 0, 0.7, 0) if "same\n" in text else (0.1, 0, 0.9, 0)), PAIRS)
    assert (quality.auroc, quality.confirmed, quality.is_chance) == (1.0, 0.0, True)


def test_one_that_is_worse_than_chance_is_refused():
    assert measure_verifier(
        verifier(lambda text: (0.1, 0, 0.9, 0) if "same\n" in text else (0.9, 0, 0.1, 0)), PAIRS
    ).is_chance


def test_a_few_pairs_by_luck_show_nothing():
    lucky = {f"known {n}\n" for n in (3, 5, 4)}
    few = PAIRS[:8]
    quality = measure_verifier(
        verifier(lambda text: (0.9, 0, 0.1, 0) if any(e in text for e in lucky) else (0.1, 0, 0.9, 0)), few
    )
    assert quality.auroc > 0.5
    assert quality.is_chance


def test_pairs_of_one_label_measure_nothing():
    with pytest.raises(ValueError, match="give some of both labels"):
        measure_verifier(verifier(lambda text: (1.0, 0, 0, 0)), PAIRS[::2])
