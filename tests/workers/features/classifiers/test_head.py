import json
import struct
from pathlib import Path

import numpy as np
import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.classifiers.head import (
    Head,
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
    write_head(head, path := tmp_path / "head.safetensors")
    found = read_head(path)
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
    write_head(Head(np.ones((2, 3), np.float32), np.ones(2, np.float32)), path := tmp_path / "head.safetensors")
    data = path.read_bytes()
    faults = [
        b"", data[:20], struct.pack("<Q", 2**60) + data[8:], data[:-9], _with_header(data, dtype="I64"),
        _with_header(data, shape=[9, 9]), _with_header(data, data_offsets=[0, 10**9]), _with_header(data, shape=[6]),
    ]  # fmt: skip
    for fault in faults:
        path.write_bytes(fault)
        with pytest.raises(ConfigurationError, match=r"head\.safetensors .*again"):
            read_head(path)
    write_head(Head(np.full((2, 3), np.nan, np.float32), np.ones(2, np.float32)), path)
    with pytest.raises(ConfigurationError, match="again"):
        read_head(path)
