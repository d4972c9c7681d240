import numpy as np
import pytest

from headrace_workers.features.knowledge.relevance_floor import (
    LEAST,
    LEAST_IN_SMALL,
    SMALL,
    FittingFloor,
    everyday_questions,
    fitting_floor,
)


def gumbel(count: int, location: float, scale: float) -> np.ndarray:
    """Return that many nearest cosines, at even steps of their distribution."""
    at = (np.arange(count) + 0.5) / count
    return location - scale * np.log(-np.log(at))


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_the_floor_lets_the_wanted_share_through(share: float) -> None:
    nearest = gumbel(20_000, 0.4, 0.05)
    assert (nearest >= fitting_floor(nearest, SMALL, share)).mean() == pytest.approx(share, abs=0.001)


def test_questions_that_the_base_answers_do_not_raise_it() -> None:
    nearest = gumbel(160, 0.4, 0.05)
    answered = np.concatenate([nearest[:144], np.full(16, 0.95)])
    assert abs(fitting_floor(answered, SMALL) - fitting_floor(nearest, SMALL)) < 0.02


def test_it_is_never_below_the_least() -> None:
    few, many = (fitting_floor(np.full(160, 0.05), passages) for passages in (SMALL - 1, SMALL))
    assert (few, many) == (LEAST_IN_SMALL, LEAST)
    assert fitting_floor(gumbel(160, 0.97, 0.1), SMALL) == 1.0


def test_it_is_read_again_when_the_base_has_grown_by_a_tenth() -> None:
    """Or shrunk by as much: reading it for each document would cost a search of the base each time."""
    floor, reads = FittingFloor(), []

    def nearest() -> np.ndarray:
        reads.append(1)
        return np.full(160, 0.4 + 0.1 * len(reads))

    assert [floor.of(size, nearest) for size in (1_000, 1_090, 910, 1_200, 1_200, 1_000)] == pytest.approx(
        [0.5, 0.5, 0.5, 0.6, 0.6, 0.7]
    )


def test_the_questions_are_many_and_each_is_one() -> None:
    """Quartiles of few would move with each of them."""
    questions = everyday_questions()
    assert len(questions) == len(set(questions)) == 160
    assert all(questions)
