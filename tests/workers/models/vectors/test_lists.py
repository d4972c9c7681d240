import numpy as np
import pytest
from tests.workers.models.vectors.clustered import clustered, recall, truth

from headrace_workers.models.vectors.nearest import Lists

VECTORS, MORE = np.split(clustered(8_500, 64), [8_000])


@pytest.fixture(scope="module")
def lists() -> Lists:
    return Lists.built(VECTORS)


def together(similarities: np.ndarray, positions: np.ndarray) -> list[tuple[float, int]]:
    return list(zip(similarities.tolist(), positions.tolist(), strict=True))


def test_dead_rows_are_passed_over(lists: Lists) -> None:
    alive = np.arange(8_000) % 3 > 0
    bits = np.packbits(alive, bitorder="little")
    _, found = lists.nearest(VECTORS[:100], 10, VECTORS, bits, int(alive.sum()))
    assert alive[found].all()
    living = np.flatnonzero(alive)
    assert recall(found, living[truth(VECTORS[:100], VECTORS[living], 10)]) >= 0.98


def test_where_all_neighbours_are_dead_the_others_are_found(lists: Lists) -> None:
    query = VECTORS[:1]
    far = truth(query, VECTORS, 8_000)[0, -7:]
    bits = np.packbits(np.isin(np.arange(8_000), far), bitorder="little")
    similarities, found = lists.nearest(query, 10, VECTORS, bits, len(far))
    assert found.tolist() == [[*far.tolist(), -1, -1, -1]]
    assert np.isneginf(similarities[0, 7:]).all()
    assert lists.nearest_to_one(query[0], 10, VECTORS, bits, len(far)) == together(similarities[0, :7], found[0, :7])


def test_where_all_are_dead_nothing_is_found(lists: Lists) -> None:
    similarities, found = lists.nearest(VECTORS[:2], 3, VECTORS, np.zeros(1_000, np.uint8), 0)
    assert (found == -1).all()
    assert np.isneginf(similarities).all()
    assert lists.nearest_to_one(VECTORS[0], 3, VECTORS, np.zeros(1_000, np.uint8), 0) == []


def test_one_query_or_many_find_the_same(lists: Lists) -> None:
    similarities, found = lists.nearest(VECTORS[:70], 5, VECTORS, None, 8_000)
    alone = [lists.nearest(VECTORS[row : row + 1], 5, VECTORS, None, 8_000)[1][0].tolist() for row in range(70)]
    assert found.tolist() == alone
    for row in range(70):
        one = lists.nearest_to_one(VECTORS[row], 5, VECTORS, None, 8_000)
        assert [position for _, position in one] == alone[row]
        np.testing.assert_allclose([similarity for similarity, _ in one], similarities[row], rtol=1e-6)


@pytest.mark.parametrize("latent", [6, 48])
def test_how_many_lists_are_looked_into_follows_from_the_vectors(latent: int) -> None:
    queries, vectors = np.split(clustered(6_100, 256, latent=latent), [100])
    lists = Lists.built(vectors)
    share = lists.index.nprobe / lists.index.nlist
    assert share < 0.25 if latent == 6 else share > 0.25
    assert recall(lists.nearest(queries, 10, vectors, None, 6_000)[1], truth(queries, vectors, 10)) >= 0.98


def test_the_same_vector_many_times_is_found_as_often() -> None:
    """Centres that fall together do no harm."""
    vectors = np.repeat(VECTORS[:3], 500, axis=0)
    similarities, found = Lists.built(vectors).nearest(VECTORS[1:2], 20, vectors, None, 1_500)
    np.testing.assert_allclose(similarities, 1.0, atol=1e-5)
    assert {*(found[0] // 500).tolist()} == {1}
    assert len({*found[0].tolist()}) == 20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_vectors_may_be_in_lists(count: int) -> None:
    """Though nobody needs them there."""
    lists = Lists.built(VECTORS[:count])
    assert lists.nearest(VECTORS[:1], 9, VECTORS, None, count)[1][0, 0] == 0


def test_grown_lists_are_a_copy(lists: Lists) -> None:
    both = np.vstack([VECTORS, MORE])
    grown = lists.grown(MORE)
    assert (lists.covered, grown.covered) == (8_000, 8_500)
    assert recall(grown.nearest(MORE[:100], 10, both, None, 8_500)[1], truth(MORE[:100], both, 10)) >= 0.98
    assert grown.bytes > lists.bytes


def test_written_lists_are_the_same(lists: Lists) -> None:
    written = lists.to_bytes()
    read = Lists.from_bytes(written, lists.trained)
    assert read.to_bytes().tobytes() == written.tobytes()
    assert read.nearest(VECTORS[:9], 5, VECTORS, None, 8_000)[1].tolist() == (
        lists.nearest(VECTORS[:9], 5, VECTORS, None, 8_000)[1].tolist()
    )
    assert read.index.nprobe == lists.index.nprobe
    assert read.grown(VECTORS[:1]).covered == 8_001
