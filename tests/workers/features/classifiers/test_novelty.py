from dataclasses import replace

import numpy as np
import pytest
from tests.workers.models.labelled_vectors import rows

from headrace_workers.features.classifiers.novelty import KEPT_ROWS, Novelty


def novelty_of(count: int = 300) -> Novelty:
    vectors, _ = rows(count)
    return Novelty.of(vectors[: count * 3 // 4], vectors[count * 3 // 4 :], seed=0)


@pytest.mark.parametrize("fault", ["another length", "too many rows", "no deviation"])
def test_arrays_that_do_not_belong_together_fit_no_head(fault: str) -> None:
    novelty = novelty_of()
    scale = novelty.scale.copy()
    scale[1] = 0.0
    faulty = {
        "another length": replace(novelty, centre=np.ones(15, np.float32)),
        "too many rows": replace(novelty, rows=np.ones((KEPT_ROWS + 1, 16), np.float32)),
        "no deviation": replace(novelty, scale=scale),
    }[fault]
    assert novelty.fits(16)
    assert not faulty.fits(16)


def test_a_novelty_test_refuses_what_is_far_from_its_rows_and_few_texts_like_them() -> None:
    novelty, (unseen, _) = novelty_of(2_000), rows(2_000, seed=1)
    strange = np.random.default_rng(2).normal(size=(500, 16)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    assert 0.02 < novelty.foreign(unseen).mean() < 0.08
    assert novelty.foreign(strange).mean() > 3 * novelty.foreign(unseen).mean()


@pytest.mark.parametrize("count", [1, 3, 40])
def test_rows_that_are_all_the_same_are_not_foreign_to_themselves_and_others_are(count: int) -> None:
    same = np.tile(np.eye(16, dtype=np.float32)[0], (count, 1))
    novelty = Novelty.of(same, same, seed=0)
    assert novelty.fits(16)
    assert not novelty.foreign(same).any()
    assert novelty.foreign(np.eye(16, dtype=np.float32)[1:]).all()


def test_of_many_rows_a_novelty_test_keeps_a_bounded_number() -> None:
    vectors, _ = rows(30_000)
    assert len(Novelty.of(vectors, vectors[:1_000], seed=0).rows) == KEPT_ROWS
