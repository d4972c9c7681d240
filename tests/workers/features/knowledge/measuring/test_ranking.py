import math

import pytest

from headrace_workers.features.knowledge.retrieval_quality import ndcg, recall


def test_the_best_ranking_has_all() -> None:
    assert ndcg(["a", "b", "x"], {"a", "b"}) == recall(["b", "a"], {"a", "b"}) == 1.0


def test_what_comes_late_counts_less() -> None:
    assert ndcg(["x", "a"], {"a"}) == pytest.approx(1 / math.log2(3))
    assert ndcg(["x", "a"], {"a"}, k=1) == recall(["x", "a"], {"a"}, k=1) == 0.0


def test_no_more_than_k_can_be_right() -> None:
    assert ndcg(["a"], {"a", "b"}, k=1) == 1.0
    assert recall(["a"], {"a", "b"}, k=1) == 0.5


def test_a_repetition_counts_once() -> None:
    assert ndcg(["a", "a", "b"], {"a", "b"}, k=2) == recall(["a", "a", "b"], {"a", "b"}, k=2) == 1.0
