"""Heads: a multinomial logistic regression over vectors of texts, its training, and its file in the safetensors format.

A head is trained in minibatches by Adam. With the same rows and seed it comes out the same on one machine.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.sentence_encoder import StoredTensor, read_header, read_tensor

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]

MOST_CLASSES: Final = 1_000
STRENGTHS: Final = (1.0, 10.0, 100.0)  # of scikit-learn's parameter C, of which one is chosen
_ROWS: Final = 256  # of a minibatch
_EPOCHS: Final = 30
_LEAST_STEPS, _MOST_STEPS = 600, 3_000
_RATE: Final = 0.1
_AT_ONCE: Final = 4_096  # rows whose probabilities are computed together
_MOST_BYTES: Final = 64_000_000  # of a file


@dataclass(frozen=True)
class Head:
    """A logistic regression of several classes over vectors of length 1."""

    weights: Floats  # (classes, dimensions)
    bias: Floats  # (classes,)

    def logits(self, vectors: Floats) -> Floats:
        """Return the logit of each class, (vectors, classes)."""
        return np.asarray(vectors @ self.weights.T + self.bias, dtype=np.float32)

    def scaled(self, factor: float) -> "Head":
        """Return the head whose logits are so many times these."""
        return replace(self, weights=self.weights * np.float32(factor), bias=self.bias * np.float32(factor))


def softmax(logits: Floats) -> Floats:
    """Return the probabilities of these logits, in each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def fit(vectors: Floats, labels: Labels, classes: int, strength: float, seed: int) -> Head:
    """Return a head for these rows, whose labels are numbers of classes. `strength` is scikit-learn's C."""
    count, dimensions = vectors.shape
    random = np.random.default_rng(seed)
    steps = max(_LEAST_STEPS, min(_MOST_STEPS, _EPOCHS * count // _ROWS))
    at = np.zeros((classes, dimensions + 1), np.float32)  # the last column is the bias, which is free
    mean, square, gradient = np.zeros_like(at), np.zeros_like(at), np.empty_like(at)
    ridge = np.float32(1.0 / (strength * count))
    order, place = random.permutation(count), 0
    for step in range(steps):
        if place >= count:
            order, place = random.permutation(count), 0
        rows = order[place : place + _ROWS]
        place += _ROWS
        some = vectors[rows]
        miss = softmax(some @ at[:, :-1].T + at[:, -1])
        miss[np.arange(len(rows)), labels[rows]] -= 1.0
        miss /= len(rows)
        gradient[:, :-1] = miss.T @ some + ridge * at[:, :-1]
        gradient[:, -1] = miss.sum(axis=0)
        mean += 0.1 * (gradient - mean)
        square += 0.01 * (gradient * gradient - square)
        rate = _RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps))
        unbiased = np.sqrt(square / (1.0 - 0.99 ** (step + 1))) + 1e-8
        at -= np.float32(rate / (1.0 - 0.9 ** (step + 1))) * mean / unbiased
    return Head(at[:, :-1].copy(), at[:, -1].copy())


def log_loss(logits: Floats, labels: Labels) -> float:
    """Return the mean of -log of the probability of each row's label."""
    total = 0.0
    for start in range(0, len(labels), _AT_ONCE):
        some = logits[start : start + _AT_ONCE].astype(np.float64)
        highest = some.max(axis=1)
        whole = np.log(np.exp(some - highest[:, None]).sum(axis=1)) + highest
        total += float((whole - some[np.arange(len(some)), labels[start : start + _AT_ONCE]]).sum())
    return total / max(1, len(labels))


def temperature(logits: Floats, labels: Labels) -> float:
    """Return the number by which logits are divided so that the probabilities are right on these rows."""
    low, high = -1.0, 2.0  # powers of e; rows without an error would have it as small as it may be
    for _ in range(30):  # the loss has one valley
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if log_loss(logits / np.float32(np.exp(left)), labels) < log_loss(logits / np.float32(np.exp(right)), labels):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, in bins of as many rows."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return float(sum(abs(confidence[part].sum() - right[part].sum()) for part in parts) / max(1, len(confidence)))


def write_head(head: Head, path: Path) -> None:
    """Write the file of a head."""
    header: dict[str, Any] = {}
    arrays = {"weights": head.weights, "bias": head.bias}
    start = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [np.ascontiguousarray(array, dtype="<f4").tobytes() for array in arrays.values()]
    path.write_bytes(b"".join([struct.pack("<Q", len(text)), text, *parts]))


def read_head(path: Path) -> Head:
    """Return the head in a file. Raise ConfigurationError, which says what is wrong with it. Nothing in it is run."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} has more than {_MOST_BYTES:,} bytes")
        stored = read_header(path)
        weights, bias = (_floats(path, stored, name) for name in ("weights", "bias"))
        if weights.ndim != 2 or bias.shape != weights.shape[:1] or not np.isfinite(weights).all():
            raise ConfigurationError(f"{path} is no head: its arrays do not fit together")
    except (ConfigurationError, OSError, ValueError) as error:
        raise ConfigurationError(f"{error}; train the classifier again") from error
    return Head(weights, bias)


def _floats(path: Path, stored: Mapping[str, StoredTensor], name: str) -> Floats:
    if name not in stored or stored[name].kind != "F32":
        raise ConfigurationError(f"{path} is no head: it has no array {name} of float32")
    return read_tensor(path, stored[name])
