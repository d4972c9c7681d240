"""What look-ups are compared to, and the vectors that they are looked up among."""

import numpy as np
import pytest
from bench.lookup import by_likeness, faiss_alone, in_turns, question, worded
from bench.vectors import KnownVectors, clustered, near

from headrace_workers.models.embedders.hashed import HashEmbedder


def test_vectors_come_in_groups():
    """Of length 1; what is asked is nearer to its entry than anything else."""
    rows = clustered(400, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    alike = near(rows, 0.3, 9) @ rows.T
    assert alike.argmax(axis=1).tolist() == list(range(400))
    assert alike.diagonal().mean() == pytest.approx(0.958, abs=0.003)


def test_questions_differ_and_so_do_their_other_wordings():
    numbers = np.arange(2_000)
    texts = {question(number) for number in range(2_000)}.union(*worded(numbers, "How can I repair", "How can I fix"))
    assert len(texts) == 6_000


def test_known_vectors_cost_what_an_embedder_costs():
    asked = []

    class First(HashEmbedder):
        def embed(self, texts):
            asked.append(list(texts))
            return super().embed(texts)

    rows = clustered(2, 8)
    assert np.array_equal(KnownVectors({"a": rows[0], "b": rows[1]}, first=First()).embed(["b", "a"]), rows[::-1])
    assert asked == [["b", "a"]]


def test_both_sides_take_turns():
    calls = []
    took = in_turns(lambda place: calls.append(("one", place)), lambda place: calls.append(("other", place)), 3)
    assert [len(side) for side in took] == [3, 3]
    assert calls[-4:] == [("one", 1), ("other", 1), ("one", 2), ("other", 2)]
    assert len(calls) == 12


def test_look_ups_by_likeness_are_compared_in_two_ways():
    rows = by_likeness(300, 5, HashEmbedder(), lambda _: None)
    assert rows[0].metric.startswith("share of hits")
    assert rows[0].value == 1.0
    assert [row.target for row in rows if row.target] == ["≤ 1.5", "≤ 2", "≤ 1.5", "≤ 2", "≤ 1.2"]


@pytest.mark.parametrize("exact", [2_000, 500])
def test_faiss_alone_finds_what_is_nearest(exact: int):
    rows = clustered(1_000, 64)
    search = faiss_alone(rows, exact)
    found = [search(query[None])[1][0].tolist() for query in near(rows[:50], 0.3, 9)]
    assert [places[0] for places in found] == list(range(50))
    assert {len(places) for places in found} == {5}
