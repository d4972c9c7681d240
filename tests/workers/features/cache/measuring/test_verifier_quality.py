"""The error of a verifier on labelled pairs, and the refusal of one that is no better than chance."""

import pytest
from tests.workers.features.judging.judge_model import JudgeModel

from headrace_workers.features.cache.measuring.pairs import Pair
from headrace_workers.features.cache.measuring.verifier_quality import measure
from headrace_workers.features.generation.verifiers.verify_stage import ModelVerifier

PAIRS = [Pair(n, f"question {n} {'same' if n % 2 else 'other'}", f"known {n}", bool(n % 2)) for n in range(1, 81)]


def verifier(answer):
    """A verifier that says this of a prompt."""
    return ModelVerifier(JudgeModel(lambda prompt, choices: answer(prompt[-1].content)))


def test_one_that_tells_them_apart_is_measured_as_such():
    """Its AUROC is 1, and it confirms all that is the same and nothing else."""
    found = measure(verifier(lambda text: (0.9, 0, 0.1, 0) if "same\n" in text else (0.1, 0, 0.9, 0)), PAIRS)
    assert (found.auroc, found.low, found.high, found.is_chance) == (1.0, 1.0, 1.0, False)
    assert (found.pairs, found.silent, found.confirmed, found.wrongly) == (80, 0, 1.0, 0.0)


@pytest.mark.parametrize("answer", [(0.9, 0, 0.1, 0), (0, 0, 0, 0)])
def test_one_that_says_the_same_of_all_is_chance(answer):
    """Whether it says yes to all of them or nothing at all: its AUROC is a half."""
    found = measure(verifier(lambda text: answer), PAIRS)
    assert (found.auroc, found.is_chance) == (0.5, True)
    assert found.confirmed == found.wrongly == (1.0 if answer[0] else 0.0)


def test_one_that_denies_all_is_refused_however_well_it_orders():
    """Its figures tell the pairs apart, and its yes or no does not."""
    found = measure(verifier(lambda text: (0.2, 0, 0.7, 0) if "same\n" in text else (0.1, 0, 0.9, 0)), PAIRS)
    assert (found.auroc, found.confirmed, found.is_chance) == (1.0, 0.0, True)


def test_one_that_is_worse_than_chance_is_refused():
    """A verifier that says the opposite has not been shown to be of use."""
    assert measure(verifier(lambda text: (0.1, 0, 0.9, 0) if "same\n" in text else (0.9, 0, 0.1, 0)), PAIRS).is_chance


def test_a_few_pairs_by_luck_show_nothing():
    """The lower end of the interval decides, and not the estimate."""
    lucky = {f"known {n}\n" for n in (3, 5, 4)}
    few = PAIRS[:8]
    found = measure(verifier(lambda text: (0.9, 0, 0.1, 0) if any(e in text for e in lucky) else (0.1, 0, 0.9, 0)), few)
    assert found.auroc > 0.5
    assert found.is_chance


def test_pairs_of_one_label_measure_nothing():
    """Without both labels there is no AUROC, and the error says what is missing."""
    with pytest.raises(ValueError, match="give some of both labels"):
        measure(verifier(lambda text: (1.0, 0, 0, 0)), PAIRS[::2])
