import numpy as np
import pytest
from tests.workers.models.vectors.clustered import unit

from headrace_workers.models.vectors.vectors import VectorRefused, checked_ids, checked_vectors, read_vector

GOOD = unit(np.arange(1, 13).reshape(3, 4))


def test_good_vectors_come_as_they_are() -> None:
    for given in (GOOD, list(GOOD), GOOD.tolist(), GOOD.astype(np.float64)):
        kept = checked_vectors("id", [1, 2, 3], given, 4)
        assert kept.dtype == np.float32
        np.testing.assert_allclose(kept, GOOD)


def test_nothing_is_a_table_of_nothing() -> None:
    """No vectors are no mistake."""
    assert checked_vectors("id", [], [], 4).shape == (0, 4)
    assert checked_vectors("id", [], np.empty((0, 4)), 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (np.nan, "id 8 holds NaN or infinity"),
        (np.inf, "id 8 holds NaN or infinity"),
        (-np.inf, "id 8 holds NaN or infinity"),
        (1e300, "id 8 holds NaN or infinity"),
        (3.0, "id 8 has length 3.1"),
        (0.0, "id 8 has length 0.9"),
    ],
)
def test_a_bad_number_is_refused_by_its_id(spoil: float, words: str) -> None:
    vectors = GOOD.astype(np.float64)
    vectors[1, 0] = spoil
    with pytest.raises(VectorRefused, match=words):
        checked_vectors("id", [7, 8, 9], vectors, 4)


def test_length_may_be_off_by_a_thousandth() -> None:
    assert checked_vectors("id", [1], GOOD[:1] * 1.0009, 4).shape == (1, 4)
    with pytest.raises(VectorRefused, match=r"id 1 has length 1\.0011"):
        checked_vectors("id", [1], GOOD[:1] * 1.0011, 4)


def test_a_vector_of_another_length_is_refused_by_its_id() -> None:
    with pytest.raises(VectorRefused, match=r"id 2 has shape \(3,\); this index takes \(4,\)"):
        checked_vectors("id", [1, 2], [GOOD[0], GOOD[1][:3]], 4)
    with pytest.raises(VectorRefused, match=r"id 1 has shape \(4,\); this index takes \(5,\)"):
        checked_vectors("id", [1, 2, 3], GOOD, 5)
    with pytest.raises(VectorRefused, match=r"id 1 has shape \(\)"):
        checked_vectors("id", [1, 2, 3, 4], GOOD[0], 4)


def test_as_many_vectors_as_ids() -> None:
    with pytest.raises(VectorRefused, match="3 vectors came for 2 ids"):
        checked_vectors("id", [1, 2], GOOD, 4)
    with pytest.raises(VectorRefused, match="0 vectors came for 2 ids"):
        checked_vectors("id", [1, 2], [], 4)


def test_ids_are_whole_numbers_that_fit() -> None:
    assert checked_ids([0, (1 << 63) - 1]).tolist() == [0, (1 << 63) - 1]
    assert checked_ids(()).dtype == np.int64
    for bad, words in (
        ([3, -1], "id -1"),
        ([1 << 63], f"id {1 << 63}"),
        ([1.5], "float64"),
        ([[1]], "shape"),
        ([True], "bool"),
    ):
        with pytest.raises(VectorRefused, match=words):
            checked_ids(bad)


@pytest.mark.parametrize("spoilt", [b"", b"abc", GOOD[0, :3].tobytes(), (GOOD[0] * 2).tobytes()])
def test_a_written_vector_is_read_or_refused_by_its_id(spoilt: bytes) -> None:
    np.testing.assert_allclose(read_vector("chunk", 7, GOOD[0].tobytes(), 4), GOOD[0])
    with pytest.raises(VectorRefused, match="chunk 7 has"):
        read_vector("chunk", 7, spoilt, 4)
