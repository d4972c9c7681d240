import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.classifiers.head import (
    KEPT_ROWS,
    Head,
    Novelty,
    calibration_error,
    fit,
    log_loss,
    read_head,
    softmax,
    temperature,
    write_head,
)


def rows(count: int, classes: int = 4, dimensions: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of length 1 about a centre for each class, and their classes."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, dimensions))
    labels = random.integers(0, classes, count)
    vectors = centres[labels] + random.normal(size=(count, dimensions)) * 1.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def novelty_of(count: int = 300) -> Novelty:
    vectors, _ = rows(count)
    return Novelty.of(vectors[: count * 3 // 4], vectors[count * 3 // 4 :], seed=0)


def test_a_head_is_as_good_as_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    (vectors, labels), (unseen, truth) = rows(600), rows(600, seed=1)
    peer = LogisticRegression(C=10.0, max_iter=1_000).fit(vectors, labels)
    logits = fit(vectors, labels, 4, 10.0, seed=0).logits(unseen)
    assert abs(float((logits.argmax(axis=1) == truth).mean()) - peer.score(unseen, truth)) < 0.02
    assert log_loss(logits, truth) < -np.log(peer.predict_proba(unseen)[np.arange(600), truth]).mean() + 0.02


def test_the_same_rows_and_seed_make_the_same_head() -> None:
    vectors, labels = rows(300)
    one, other, third = (fit(vectors, labels, 4, 1.0, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.weights, other.weights)
    assert not np.array_equal(one.weights, third.weights)


def test_the_temperature_makes_overconfident_logits_right() -> None:
    (vectors, labels), (unseen, truth) = rows(600), rows(600, seed=1)
    logits = fit(vectors, labels, 4, 10.0, seed=0).logits(unseen) * np.float32(6)
    cooled = logits / np.float32(temperature(logits, truth))
    right = logits.argmax(axis=1) == truth
    assert temperature(logits, truth) > 3
    assert calibration_error(softmax(cooled).max(axis=1), right) < calibration_error(softmax(logits).max(axis=1), right)


def test_a_head_reads_back_as_it_was_written(tmp_path: Path) -> None:
    head = fit(*rows(100), 4, 1.0, seed=0)
    write_head(head, novelty := novelty_of(), path := tmp_path / "head.safetensors")
    found, test = read_head(path)
    assert all(np.array_equal(getattr(test, name), value) for name, value in vars(novelty).items())
    assert np.array_equal(found.weights, head.weights)
    assert np.array_equal(found.bias, head.bias)
    (length,) = struct.unpack_from("<Q", data := path.read_bytes())
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length])["weights"] == {
        "dtype": "F32", "shape": [4, 16], "data_offsets": [0, 256],
    }  # fmt: skip


def _with_header(data: bytes, **changes: object) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header["weights"] |= changes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def test_a_file_that_is_no_head_is_refused_with_words(tmp_path: Path) -> None:
    novelty = replace(novelty_of(), rows=np.ones((2, 16), np.float32))
    write_head(
        Head(np.ones((2, 16), np.float32), np.ones(2, np.float32)), novelty, path := tmp_path / "head.safetensors"
    )
    data = path.read_bytes()
    faults = [
        b"", data[:20], struct.pack("<Q", 2**60) + data[8:], data[:-9], _with_header(data, dtype="I64"),
        _with_header(data, shape=[9, 9]), _with_header(data, data_offsets=[0, 10**9]), _with_header(data, shape=[6]),
    ]  # fmt: skip
    for fault in faults:
        path.write_bytes(fault)
        with pytest.raises(ConfigurationError, match=r"head\.safetensors .*again"):
            read_head(path)
    write_head(Head(np.full((2, 16), np.nan, np.float32), np.ones(2, np.float32)), novelty, path)
    with pytest.raises(ConfigurationError, match="again"):
        read_head(path)


@pytest.mark.parametrize("fault", ["missing", "another length", "too many rows", "no number", "no deviation"])
def test_a_file_without_a_usable_novelty_test_is_refused_with_the_command_that_trains_it_again(
    tmp_path: Path, fault: str
) -> None:
    novelty, head = novelty_of(), Head(np.ones((2, 16), np.float32), np.ones(2, np.float32))
    scale = novelty.scale.copy()
    scale[1] = 0.0
    faulty = {
        "missing": novelty,
        "another length": replace(novelty, centre=np.ones(15, np.float32)),
        "too many rows": replace(novelty, rows=np.ones((KEPT_ROWS + 1, 16), np.float32)),
        "no number": replace(novelty, whitening=np.full((16, 16), np.nan, np.float32)),
        "no deviation": replace(novelty, scale=scale),
    }[fault]
    (folder := tmp_path / "kinds").mkdir()
    write_head(head, faulty, path := folder / "head.safetensors")
    if fault == "missing":
        path.write_bytes(path.read_bytes().replace(b'"whitening"', b'"whitenin_"'))
    with pytest.raises(ConfigurationError, match=r"`headrace classifier train kinds`"):
        read_head(path)


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
