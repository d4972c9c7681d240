"""Sketches estimate how much sets have in common, and bands find the pairs that are alike."""

import hashlib

import numpy as np
import pytest

from headrace_workers.features.datasets.duplicates import HASHES, Bands, likeness, sketch_of


def digests(numbers: range) -> list[bytes]:
    return [hashlib.blake2b(str(number).encode(), digest_size=8).digest() for number in numbers]


@pytest.mark.parametrize("alike", [0.2, 0.8, 0.95])
@pytest.mark.parametrize("size", [60, 9_000])
def test_estimates_err_as_binomials_do(alike: float, size: int) -> None:
    shared = round(2 * size * alike / (1 + alike))
    true, found = shared / (2 * size - shared), []
    for number in range(200 if size < 9_000 else 10):
        first = number * 10 * size
        one = sketch_of(digests(range(first, first + size)))
        found.append(likeness(one, sketch_of(digests(range(first + size - shared, first + 2 * size - shared)))))
    spread = np.sqrt(true * (1 - true) / HASHES)
    assert np.mean(found) == pytest.approx(true, abs=4 * spread / np.sqrt(len(found)))
    assert np.std(found) == pytest.approx(spread, rel=0.2 if size < 9_000 else 0.8)


def test_order_and_repetition_do_not_count() -> None:
    some = digests(range(50))
    assert (sketch_of(some) == sketch_of([*reversed(some), *some])).all()


def test_bands_find_what_is_alike() -> None:
    bands = Bands(0.8)
    for key in range(300):
        bands.insert(key, sketch_of(digests(range(1_000 * key, 1_000 * key + 100))))
    hits = sum(
        key in bands.candidates(sketch_of(digests(range(1_000 * key + 5, 1_000 * key + 105)))) for key in range(300)
    )
    assert hits >= 260
    assert bands.candidates(sketch_of(digests(range(500, 600)))) == set()
