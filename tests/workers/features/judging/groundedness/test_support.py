from dataclasses import replace

import numpy as np
import pytest

from headrace_workers.features.judging.groundedness.doubts import KINDS, USUAL, Doubts, support, worst
from headrace_workers.features.judging.groundedness.evidence import Lacking

NOTHING = Lacking(frozenset(), frozenset(), frozenset(), 0.0)


def test_the_worst_doubt_counts_and_a_second_one_a_little() -> None:
    one, two, good = worst(np.array([[3.0, 0.0, 0.0], [3.0, 3.0, 0.0], [3.0, 0.0, -9.0]]))
    assert 3.0 < good < one < 3.1
    assert one < two < 3.5


def test_a_denial_alone_makes_a_sentence_unlikely() -> None:
    nearer = {kind: USUAL[kind][0] for kind in KINDS}
    usual = support(Doubts(0.8, NOTHING, nearer))
    denied = support(Doubts(0.8, NOTHING, nearer | {"denial": 0.2}))
    assert denied.probability < 0.5 < usual.probability
    assert denied.reason == "the opposite fits the evidence better"
    assert not denied.checked


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ({"numbers": frozenset({"7"})}, "a number that is nowhere in it: 7"),
        ({"units": frozenset({"kg"})}, "a unit that is nowhere in it: kg"),
        ({"names": frozenset({"voss"})}, "a name that is nowhere in it: voss"),
    ],
)
def test_what_is_nowhere_is_a_veto(lacking: dict[str, frozenset[str]], reason: str) -> None:
    sure = dict.fromkeys(KINDS, -1.0)
    found = support(Doubts(1.0, replace(NOTHING, **lacking), sure))
    assert (found.reason, found.checked) == (reason, True)
    assert found.probability < 0.5


def test_another_matter_is_far_and_in_new_words() -> None:
    usual = {kind: USUAL[kind][0] for kind in KINDS}
    new = replace(NOTHING, words=0.8)
    assert support(Doubts(0.2, new, usual)).checked
    assert not support(Doubts(0.2, NOTHING, usual)).checked
    assert not support(Doubts(0.8, new, usual)).checked
