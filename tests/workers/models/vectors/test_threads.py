import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.workers.models.vectors.clustered import clustered, truth, unit

from headrace_workers.models.vectors.vector_index import Limits, VectorIndex

HALF, STEADY, K = 8, 50, 10
# With at most 100 living rows, and as many probes as lists, every search is whole: it can be compared exactly.
EAGER = Limits(exact=40, outside=20, dead=20, dead_share=0.1, growth=1.2)


def beside(vectors: np.ndarray, first: bool) -> np.ndarray:
    """Vectors that use one half of the dimensions only: those of the other half have similarity 0 with them."""
    nothing = np.zeros_like(vectors)
    return np.hstack([vectors, nothing] if first else [nothing, vectors])


STEADY_ROWS = beside(clustered(STEADY, HALF), first=True)
QUERIES = beside(clustered(20, HALF, seed=1), first=True)
OTHER_QUERIES = beside(clustered(5, HALF, seed=2), first=False)  # all steady rows have similarity 0 with them
NEAREST = truth(QUERIES, STEADY_ROWS, K).tolist()
TURNS, FIRST_PASSING = 60, 100_000  # keys from this on are put once and removed


def version(key: int, turn: int) -> np.ndarray:
    """What a writer puts under a key in this turn. It is far from all that is steady."""
    return beside(unit(np.random.default_rng((key, turn)).standard_normal((1, HALF))), first=False)[0]


def change(index: VectorIndex, writer: int, gone: set[int]) -> None:
    """Replace and remove rows beside the steady ones. `gone` gets each key that never comes back, once its removal has
    returned.
    """
    keys = 1_000 * (writer + 1) + np.arange(20)
    for turn in range(TURNS):
        chosen = keys[turn % 7 :: 3]
        index.put(chosen, [version(int(key), turn) for key in chosen])
        index.remove(keys[turn % 5 :: 5])
        passing = FIRST_PASSING + 1_000 * writer + turn
        index.put([passing], [version(passing, 0)])
        index.remove([passing])
        gone.add(passing)


def similarities_of(key: int, query: np.ndarray) -> list[float]:
    """Return the similarities that a key may have with one of the other queries, by each vector that it ever had."""
    if key < STEADY:
        return [0.0]
    return [float(version(key, turn) @ query) for turn in range(1 if key >= FIRST_PASSING else TURNS)]


def check_steady(index: VectorIndex) -> None:
    """The steady rows are found as if nothing changed, by both ways to search."""
    assert index.search(QUERIES, K)[1].tolist() == NEAREST
    for query, expected in zip(QUERIES, NEAREST, strict=True):
        assert [key for key, _ in index.nearest(query, K)] == expected


def check_changing(index: VectorIndex, gone: set[int]) -> None:
    """No row is found twice, or after its removal, and each by a vector that it had."""
    dead = frozenset(gone)
    similarities, ids = index.search(OTHER_QUERIES, K)
    for query, values, keys in zip(OTHER_QUERIES, similarities.tolist(), ids.tolist(), strict=True):
        assert not dead & {*keys}
        assert len({*keys}) == K
        for value, key in zip(values, keys, strict=True):
            assert min(abs(value - known) for known in similarities_of(key, query)) < 1e-5


def test_searches_are_right_while_others_change_and_rebuild(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_workers.models.vectors.nearest.LEAST_PROBES", 100)
    index = VectorIndex(2 * HALF, EAGER)
    index.put(np.arange(STEADY), STEADY_ROWS)
    over, gone = threading.Event(), set[int]()

    def until_over(work: Callable[[], object]) -> int:
        """Work until the changes are over, and at least once. Return how often it gave something."""
        given = 0
        try:
            while True:
                given += bool(work())
                if over.is_set():
                    return given
        except BaseException:
            over.set()  # or the others would go on for ever
            raise

    def search() -> None:
        check_steady(index)
        check_changing(index, gone)

    with ThreadPoolExecutor(6) as pool:
        searching = [pool.submit(until_over, search) for _ in range(3)]
        rebuilding = pool.submit(until_over, index.compact)
        changing = [pool.submit(change, index, writer, gone) for writer in range(2)]
        for future in changing:
            future.result()
        over.set()
        for future in searching:
            future.result()
        assert rebuilding.result() > 0
    left = {int(key) for key in index.search(QUERIES[:1], 2_000)[1][0] if key >= 0}
    assert len(left) == len(index)
    assert {*range(STEADY)} <= left
    assert not left & gone


def test_changes_during_a_rebuild_are_in_the_new_lists() -> None:
    vectors = clustered(40, HALF)
    index = VectorIndex(HALF, Limits(exact=20))
    index.put(np.arange(30), vectors[:30])
    before = index.state

    index.apply([30, 3, 4], vectors[[30, 31, 32]], removed=[4, 5])
    index.put([5], vectors[33:34])
    index.put([31], vectors[34:35])
    index.remove([6, 31])
    index._build(before)
    kept = {**dict(enumerate(vectors[:31])), 3: vectors[31], 4: vectors[32], 5: vectors[33]}
    del kept[6]
    assert index.state.covered == 30
    found = index.vectors_of(range(40))
    assert found.keys() == kept.keys()
    for key, vector in kept.items():
        assert found[key].tolist() == vector.tolist()
        assert index.search(vector[None], 1)[1].tolist() == [[key]]
    index.remove([*kept])
    assert index.search(vectors[:1], 1)[1].tolist() == [[-1]]


def test_changes_while_lists_grow_are_kept() -> None:
    """What was put and removed since the growth began is there afterwards, or is not."""
    vectors = clustered(40, HALF)
    index = VectorIndex(HALF, Limits(exact=20, outside=2))
    index.put(np.arange(30), vectors[:30])
    index.compact()
    index.put(np.arange(30, 35), vectors[30:35])
    before = index.state
    assert before.lists is not None
    index.apply([35, 1], vectors[35:37], removed=[2, 31])
    index._grow(before, before.lists)
    assert index.state.covered == 35
    found = {*index.search(vectors[:1], 40)[1][0].tolist()}
    assert found == {-1, *range(36)} - {2, 31}
    assert index.search(vectors[36:37], 1)[1].tolist() == [[1]]


def test_a_state_stays_as_it_is() -> None:
    """Who searches it sees nothing of what came since: a removal, an addition, a replacement."""
    vectors = clustered(40, HALF)
    index = VectorIndex(HALF, Limits(exact=100))
    for start in (0, 10):
        index.put(np.arange(start, start + 10), vectors[start : start + 10])
    index.put([20], vectors[20:21])
    state = index.state
    seen = state.search(vectors[:5], 30)
    index.remove([0, 1])
    index.apply([21, 3], vectors[21:23])
    for now, then in zip(state.search(vectors[:5], 30), seen, strict=True):
        assert now.tolist() == then.tolist()
