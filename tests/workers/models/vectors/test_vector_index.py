import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.workers.models.vectors.clustered import clustered, recall, truth, unit

from headrace_workers.models.vectors.vector_index import Limits, VectorIndex
from headrace_workers.models.vectors.vectors import VectorRefused

SMALL = Limits(exact=12, outside=5, dead=4, dead_share=0.25, growth=2.0)  # every structure within thirty vectors


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(3)
    similarities, ids = index.search(unit(np.eye(3)[:2]), 4)
    assert ids.tolist() == [[-1] * 4] * 2
    assert np.isneginf(similarities).all()
    assert similarities.shape == (2, 4)
    assert len(index) == 0


def test_no_queries_find_no_rows() -> None:
    index = filled(40, SMALL)
    for _ in range(2):
        similarities, ids = index.search([], 3)
        assert similarities.shape == ids.shape == (0, 3)
        index.compact()


def test_the_nearest_come_first() -> None:
    index = VectorIndex(2)
    index.put([10, 11, 12], unit([[1, 0], [0, 1], [1, 1]]))
    similarities, ids = index.search([[1.0, 0.0]], 5)
    assert ids.tolist() == [[10, 12, 11, -1, -1]]
    np.testing.assert_allclose(similarities[0, :3], [1, 0.5**0.5, 0], atol=1e-6)
    assert index.search([[1.0, 0.0]], 1)[1].tolist() == [[10]]


def test_a_refused_batch_changes_nothing() -> None:
    index = VectorIndex(2)
    index.put([1], [[1.0, 0.0]])
    with pytest.raises(VectorRefused, match="id 6 has length 2"):
        index.apply([5, 6], [[1.0, 0.0], [0.0, 2.0]], removed=[1])
    assert len(index) == 1
    assert index.vectors_of([1, 5, 6]).keys() == {1}


def test_a_query_is_checked_too() -> None:
    """NaN would come back as a similarity."""
    index = filled(3, SMALL)
    with pytest.raises(VectorRefused, match="query 1 holds NaN"):
        index.search([unit(np.ones(8)), np.full(8, np.nan)], 1)
    with pytest.raises(VectorRefused, match=r"query 0 has shape \(7,\)"):
        index.search(np.ones((1, 7)), 1)
    with pytest.raises(ValueError, match="k is 0"):
        index.search([unit(np.ones(8))], 0)


@pytest.mark.parametrize(
    ("vector", "why"),
    [
        (np.full(8, np.nan, np.float32), "query 0 holds NaN"),
        (np.ones(8, np.float32), "query 0 has length 2.8"),
        (np.ones(7, np.float32), r"query 0 has shape \(7,\)"),
        (np.ones((1, 8), np.float32), r"query 0 has shape \(1, 8\)"),
    ],
)
def test_a_single_query_is_checked_as_well(vector: NDArray[np.float32], why: str) -> None:
    with pytest.raises(VectorRefused, match=why):
        filled(3, SMALL).nearest(vector, 1)


def test_a_single_query_of_another_kind_is_read_as_it_is_meant() -> None:
    index, query = filled(3, SMALL), unit(np.arange(1, 9))
    nearest = index.nearest(query, 3)
    assert [key for key, _ in nearest] == index.search([query], 3)[1][0].tolist()
    assert index.nearest(np.repeat(query, 2)[::2], 3) == nearest
    assert index.nearest(np.frombuffer(query.tobytes(), np.float32), 3) == nearest
    assert index.nearest(query.astype(np.float64), 3) == nearest  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k is 0"):
        index.nearest(query, 0)


def test_what_a_caller_keeps_is_not_what_the_index_keeps() -> None:
    vectors = unit(np.eye(2))
    index = VectorIndex(2)
    index.put([1, 2], vectors)
    vectors[:] = 0
    index.vectors_of([1])[1][:] = 0
    assert index.vectors_of([1])[1].tolist() == [1.0, 0.0]


def filled(count: int, limits: Limits, dimension: int = 8) -> VectorIndex:
    index = VectorIndex(dimension, limits)
    index.put(np.arange(count), clustered(count, dimension))
    return index


def test_lists_are_due_when_there_is_too_much_to_compare() -> None:
    index = filled(12, SMALL)
    assert not index.due
    assert not index.compact()
    index.put([12], clustered(1, 8, seed=5))
    assert index.due
    assert index.compact()
    assert index.state.covered == 13
    assert not index.due
    assert not index.compact()


def test_what_waits_outside_is_sorted_in_without_building_anew() -> None:
    index = filled(20, SMALL)
    index.compact()
    trained = index.state.lists.trained
    index.put(np.arange(20, 26), clustered(6, 8, seed=1))
    rows = index.state.rows
    assert index.due
    assert index.compact()
    assert index.state.rows is rows
    assert index.state.covered == 26
    assert index.state.lists.trained == trained == 20


def test_dead_rows_are_given_back() -> None:
    """Once they are too many, in lists or not; and few vectors need no lists."""
    index = filled(40, SMALL)
    index.compact()
    held = index.bytes
    index.remove(np.arange(8, 40))
    assert index.due
    assert index.compact()
    assert index.state.rows.dead == 0
    assert index.state.lists is None
    assert index.bytes < held / 2
    assert sorted(index.search(clustered(1, 8), 9)[1][0].tolist()) == [-1, *range(8)]


def test_a_few_dead_rows_are_let_be() -> None:
    index = filled(10, SMALL)
    index.remove([0, 1, 2, 3])
    assert not index.due


def test_outgrown_lists_learn_new_centres() -> None:
    index = filled(20, SMALL)
    index.compact()
    index.put(np.arange(20, 41), clustered(21, 8, seed=1))
    assert index.compact()
    assert index.state.lists.trained == 41


@pytest.mark.integration
@pytest.mark.parametrize("outside", [0, 1000])
def test_recall_by_lists(outside: int) -> None:
    """At least 98 of 100 of what comparing all would find, some of it in lists and some not, some of it dead."""
    vectors, queries = clustered(12_200 + outside, 384)[200:], clustered(12_200 + outside, 384)[:200]
    index = VectorIndex(384)
    index.put(np.arange(12_000) + 7, vectors[:12_000])
    assert index.compact()
    index.put(np.arange(12_000, 12_000 + outside) + 7, vectors[12_000:])
    dead = np.arange(0, len(vectors), 5)
    index.remove(dead + 7)
    assert not index.due
    expected = np.setdiff1d(np.arange(len(vectors)), dead)
    similarities, ids = index.search(queries, 10)
    assert recall(ids - 7, expected[truth(queries, vectors[expected], 10)]) >= 0.98
    np.testing.assert_allclose(similarities, np.einsum("qd,qkd->qk", queries, vectors[ids - 7]), atol=1e-5)
    assert (np.diff(similarities, axis=1) <= 0).all()


IDS = st.integers(0, 30)
CHANGE = st.tuples(st.lists(IDS, max_size=12), st.lists(IDS, max_size=12), st.integers(0, 1_000), st.booleans())


@pytest.mark.integration
@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGE, min_size=1, max_size=12))
def test_any_sequence_of_changes_finds_what_a_dictionary_holds(
    changes: list[tuple[list[int], list[int], int, bool]],
) -> None:
    index, kept = VectorIndex(6, SMALL), {}
    for put, removed, seed, compacted in changes:
        vectors = unit(np.random.default_rng(seed).standard_normal((len(put), 6)))
        index.apply(put, vectors, removed)
        for key in removed:
            kept.pop(key, None)
        kept.update(zip(put, vectors, strict=True))
        if compacted:
            while index.compact():
                pass
            assert not index.due
        assert len(index) == len(kept)
        assert {key: vector.tolist() for key, vector in index.vectors_of(range(31)).items()} == {
            key: vector.tolist() for key, vector in kept.items()
        }
        query = unit(np.random.default_rng(seed + 1).standard_normal((2, 6)))
        for k in (3, 40):
            similarities, ids = index.search(query, k)
            for row in range(2):
                best = sorted((float(query[row] @ vector) for vector in kept.values()), reverse=True)[:k]
                found = [int(key) for key in ids[row] if key >= 0]
                assert len(found) == len({*found}) == min(k, len(kept))
                np.testing.assert_allclose(similarities[row, : len(found)], best, atol=1e-5)
                np.testing.assert_allclose(
                    similarities[row, : len(found)], [query[row] @ kept[key] for key in found], atol=1e-5
                )
                assert np.isneginf(similarities[row, len(found) :]).all()
                assert index.nearest(query[row], k) == [*zip(found, similarities[row].tolist(), strict=False)]


def test_only_those_asked_for_are_looked_at_and_all_of_them() -> None:
    index = filled(40, SMALL)
    index.compact()
    index.remove(list(range(0, 40, 7)))
    vectors = index.vectors_of(range(40))
    queries = unit(np.random.default_rng(3).normal(size=(9, index.dimension)))
    for among in ([], [3], [7, 14], [999], list(range(1, 40, 3)), list(range(40))):
        living = [key for key in among if key in vectors]
        similarities, ids = index.search(queries, 5, among)
        for row, query in enumerate(queries):
            expected = sorted(living, key=lambda key: -float(vectors[key] @ query))[:5]
            assert ids[row].tolist() == expected + [-1] * (5 - len(expected))
        assert similarities.shape == ids.shape == (9, 5)
    assert index.search([], 5, [1])[1].shape == (0, 5)
