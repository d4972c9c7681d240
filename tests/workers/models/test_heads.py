import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.models.labelled_vectors import rows

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models import heads
from headrace_workers.models.heads import Head, fit, fit_binary, load_head, log_loss, save_head, sigmoid

HEAD = Head("e", np.full((2, 16), 0.5, np.float32), np.arange(2, dtype=np.float32), ("hate", "violence"))


def test_a_head_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    (vectors, labels), (unseen, truth) = rows(600), rows(600, seed=1)
    peer = LogisticRegression(C=10.0, max_iter=1_000).fit(vectors, labels)
    logits = Head("e", *fit(vectors, labels, 4, 10.0)).logits(unseen)
    assert (logits.argmax(axis=1) == peer.predict(unseen)).mean() > 0.99
    losses = -np.log(peer.predict_proba(unseen)[np.arange(600), truth])
    assert log_loss(logits, truth) == pytest.approx(losses.mean(), abs=1e-3)


@pytest.mark.parametrize(("count", "steepness"), [(40, 1.0), (400, 5.0), (1_000, 40.0)])
def test_a_head_of_two_classes_is_that_of_scikit_learn(count: int, steepness: float) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(count)
    vectors, _ = rows(count)
    positive = random.random(count) < sigmoid(steepness * (5 * vectors[:, 0] - 1))
    peer = LogisticRegression(C=10.0, max_iter=1_000, tol=1e-8).fit(vectors, positive)
    weights, bias = fit_binary(vectors, positive, 10.0)
    np.testing.assert_allclose([*weights, bias], [*peer.coef_[0], *peer.intercept_], rtol=1e-2, atol=1e-2)


def test_there_must_be_rows_of_both_kinds() -> None:
    for same in (True, False):
        with pytest.raises(ValueError, match="both kinds"):
            fit_binary(np.eye(3, dtype=np.float32), np.full(3, same), 10.0)


def test_a_head_reads_back_as_it_was_written(tmp_path: Path) -> None:
    save_head(path := tmp_path / "head.safetensors", HEAD, {"centre": (centre := np.ones(3, np.float32))})
    head, beside = load_head(path, "train")
    assert (head.embedder, head.names, head.version) == (HEAD.embedder, HEAD.names, HEAD.version)
    assert np.array_equal(head.logits(np.eye(16, dtype=np.float32)), HEAD.logits(np.eye(16, dtype=np.float32)))
    assert (list(beside), beside["centre"].tolist()) == (["centre"], centre.tolist())
    changed = [replace(HEAD, bias=HEAD.bias + 1), replace(HEAD, embedder="x"), replace(HEAD, names=("hate", "x"))]
    assert len({HEAD.version, *(head.version for head in changed)}) == 4


def _forged(**changes: Any) -> bytes:
    """Return a file with a right checksum, whatever its header says."""
    about = {"embedder": "e", "names": "[]"} | changes.pop("about", {})
    header: dict[str, Any] = {
        "__metadata__": about,
        "weights": {"dtype": "F32", "shape": [2, 16], "data_offsets": [0, 128]},
        "bias": {"dtype": "F32", "shape": [2], "data_offsets": [128, 136]} | changes.pop("bias", {}),
    } | changes
    data = np.zeros(34, np.float32).tobytes()
    about["sha256"] = sha256(json.dumps(header).encode() + data).hexdigest()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _written(head: Head, path: Path) -> bytes:
    save_head(path, head, {})
    return path.read_bytes()


def test_a_file_that_is_no_head_is_refused_with_the_command_that_writes_one(tmp_path: Path) -> None:
    right = _written(HEAD, path := tmp_path / "head.safetensors")
    path.write_bytes(_forged())
    load_head(path, "train")
    faults = {
        "": b"", "half a file": right[:20], "a huge header": (2**60).to_bytes(8, "little") + right[8:],
        "checksum": right[:-1] + b"x", "a missing array": _forged(weights={}),
        "another type": _forged(bias={"dtype": "I32"}),
        "too short": _forged(bias={"shape": [9, 9]}), "outside": _forged(bias={"data_offsets": [0, 10**9]}),
        "no shape": _forged(bias={"shape": "x"}),
        "of other classes": _forged(bias={"data_offsets": [0, 12], "shape": [3]}),
        "names": _forged(about={"names": "{"}), "deep": (10**6).to_bytes(8, "little") + b"[" * 10**6,
        "no number": _written(replace(HEAD, weights=np.full((2, 16), np.nan, np.float32)), path),
    }  # fmt: skip
    for fault in faults.values():
        path.write_bytes(fault)
        with pytest.raises(
            ConfigurationError, match=r"the head .*head\.safetensors cannot be used: .*`train` writes one"
        ):
            load_head(path, "train")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        load_head(tmp_path / "none", "train")


def test_a_file_of_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _written(HEAD, path := tmp_path / "head.safetensors")
    monkeypatch.setattr(heads, "MOST_BYTES", 100)
    with pytest.raises(ConfigurationError, match="it has more than 100 bytes"):
        load_head(path, "train")
