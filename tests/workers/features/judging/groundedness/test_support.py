"""How likely a sentence is supported."""

import numpy as np

from headrace_workers.features.judging.groundedness.doubts import KINDS, Doubts
from headrace_workers.features.judging.groundedness.support import USUAL, support, worst


def test_the_worst_doubt_counts_and_a_second_one_a_little() -> None:
    """Nearly as much as the worst; two are worse than one, and a good one makes up for none."""
    one, two, good = worst(np.array([[3.0, 0.0, 0.0], [3.0, 3.0, 0.0], [3.0, 0.0, -9.0]]))
    assert 3.0 < good < one < 3.1
    assert one < two < 3.5


def test_a_denial_alone_makes_a_sentence_unlikely() -> None:
    """And it is the reason that is told."""
    nearer = {kind: USUAL[kind][0] for kind in KINDS}
    usual = support(Doubts(0.8, frozenset(), frozenset(), nearer))
    denied = support(Doubts(0.8, frozenset(), frozenset(), nearer | {"denial": 0.2}))
    assert denied.probability < 0.5 < usual.probability
    assert denied.reason == "the opposite fits the evidence better"
