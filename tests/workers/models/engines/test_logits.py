from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from headrace_schemas import Sampling
from headrace_workers.models.engines.logits import SeededRow, UnusableLogits, draw
from headrace_workers.models.engines.stopping import Row

LOGITS = np.array([1.0, 3.0, 2.0, 0.0, -1.0], dtype=np.float32)


def sampling(**fields: object) -> Sampling:
    return Sampling.model_validate({"temperature": 1.0, "seed": 1, **fields})


def shares(**fields: object) -> dict[int, float]:
    """Which part of [0, 1) each token has."""
    points = 4_000
    counts = Counter(draw(LOGITS, sampling(**fields), i / points) for i in range(points))
    return {token: count / points for token, count in counts.items()}


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_token_is_drawn_as_often_as_the_softmax_says(temperature: float) -> None:
    expected = softmax(LOGITS / temperature)
    assert shares(temperature=temperature) == pytest.approx(dict(enumerate(expected)), abs=5e-4)


def test_top_k_leaves_the_likeliest_alone() -> None:
    kept = softmax(LOGITS[[1, 2]])
    assert shares(top_k=2) == pytest.approx({1: kept[0], 2: kept[1]}, abs=5e-4)
    assert set(shares(top_k=0)) == {0, 1, 2, 3, 4}
    assert set(shares(top_k=1000)) == {0, 1, 2, 3, 4}


def test_top_p_leaves_the_fewest_that_have_the_mass() -> None:
    assert set(shares(top_p=0.6)) == {1}
    assert set(shares(top_p=0.8)) == {1, 2}
    assert set(shares(top_p=1e-9)) == {1}
    assert set(shares(temperature=2.0, top_p=0.6)) == {1, 2}  # the temperature comes first: 0.45 and 0.27


def test_a_logit_of_minus_infinity_is_never_drawn() -> None:
    masked = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    assert {draw(masked, sampling(), point) for point in (0.0, 0.5, 0.999999)} == {1}


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert draw(LOGITS, sampling(temperature=1e-300), 0.99) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_figures_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(UnusableLogits, match="pull or convert"):
        draw(np.array([0.0, bad, 1.0], dtype=np.float32), sampling(), 0.5)
    with pytest.raises(UnusableLogits):
        draw(np.array([-np.inf, -np.inf], dtype=np.float32), sampling(), 0.5)


@dataclass
class Step:
    """The engine's step: its own choice is the greedy one."""

    logits: np.ndarray
    batch_id: int = 0
    token_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.token_id = int(self.logits.argmax())


def row(limit: int = 100, stops: tuple[str, ...] = (), ends: tuple[int, ...] = (), size: int = 5) -> SeededRow:
    """A row over letters: token 0 is a."""
    return SeededRow(
        Row(limit, stops), sampling(), vocabulary_size=size, end_ids=ends,
        decode=lambda ids: "".join(chr(97 + i) for i in ids),
    )  # fmt: skip


def certain(token: int, size: int = 5) -> np.ndarray:
    logits = np.full((1, size), -np.inf, dtype=np.float32)
    logits[0, token] = 0.0
    return logits


def test_a_run_goes_on_while_the_draw_is_the_greedy_token() -> None:
    one, step = row(), Step(LOGITS.reshape(1, -1))
    while not one(step):
        pass
    assert not one.ended
    assert one.ids[-1] != step.token_id
    assert set(one.ids[:-1]) <= {step.token_id}


def test_an_answer_ends_at_its_limit_its_stop_string_and_the_end_token() -> None:
    limited = row(limit=2)
    assert [limited(Step(certain(0))), limited(Step(certain(1)))] == [False, True]
    assert (limited.ended, limited.ids, limited.left) == (True, [0, 1], 0)
    stopped = row(stops=("bc",))
    assert [stopped(Step(certain(i))) for i in (0, 1, 2)] == [False, False, True]
    assert stopped.ended
    ended = row(ends=(4,))
    assert [ended(Step(certain(i))) for i in (0, 4)] == [False, True]
    assert (ended.ended, ended.ids) == (True, [0])


def test_padding_of_the_vocabulary_is_never_drawn() -> None:
    one = row(size=3)
    logits = np.array([[0.0, 0.0, 0.0, 9.0, 9.0]], dtype=np.float32)
    for _ in range(50):
        one(Step(logits))
    assert set(one.ids) <= {0, 1, 2}
