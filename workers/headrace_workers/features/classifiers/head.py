"""Heads: a multinomial logistic regression over vectors of texts, its training, its test for texts that are unlike the
rows, and its file in the safetensors format.

A head is trained in minibatches by Adam. With the same rows and seed it comes out the same on one machine.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import ceil
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.sentence_encoder import StoredTensor, read_header, read_tensor

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Labels = NDArray[np.intp]

MOST_CLASSES: Final = 1_000
STRENGTHS: Final = (1.0, 10.0, 100.0)  # of scikit-learn's parameter C, of which one is chosen
_ROWS: Final = 256  # of a minibatch
_EPOCHS: Final = 30
_LEAST_STEPS, _MOST_STEPS = 600, 3_000
_RATE: Final = 0.1
_AT_ONCE: Final = 4_096  # rows whose probabilities are computed together
_MOST_BYTES: Final = 128_000_000  # of a file
KEPT_ROWS: Final = 1_000  # that a text is compared with
REFUSED: Final = 0.05  # of texts like the rows
_COVARIANCE_ROWS: Final = 20_000  # bounds the memory of a training
_NEIGHBOURS: Final = 5
_SHRINKAGE: Final = 0.1
_LEAST_VARIANCE: Final = 1e-6  # where all rows are the same
_LEAST_DEVIATION: Final = 1e-3
_ROUNDING: Final = 0.01


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


@dataclass(frozen=True)
class Novelty:
    """A test that finds vectors of length 1 which are unlike the rows of a training, by their Mahalanobis distance from
    the centre and the distance from the nearest rows. `scale` has the mean and the deviation of both, and the
    threshold.
    """

    centre: Floats  # (dimensions,)
    whitening: Floats  # (dimensions, dimensions)
    rows: Floats  # (rows, dimensions)
    scale: Floats  # (5,)

    @classmethod
    def of(cls, rows: Floats, others: Floats, seed: int) -> Self:
        """Return the test made from `rows`, with its threshold from the `others`."""
        drawn = rows[np.random.default_rng(seed).permutation(len(rows))[:_COVARIANCE_ROWS]]
        centre = drawn.mean(axis=0)
        apart = (drawn - centre).astype(np.float64)
        covariance = apart.T @ apart / len(apart)
        variance = max(float(np.trace(covariance)) / len(centre), _LEAST_VARIANCE)
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * np.eye(len(centre))
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T / np.sqrt(len(centre))
        plain = cls(centre, whitening.astype(np.float32), drawn[:KEPT_ROWS], np.array([0, 1, 0, 1, 0], np.float32))
        distances = plain._distances(others)
        mean, deviation = distances.mean(axis=1), np.maximum(distances.std(axis=1), _LEAST_DEVIATION)
        scores = np.sort(((distances - mean[:, None]) / deviation[:, None]).sum(axis=0))
        # This rank of n rows refuses at most the share of new rows like them (conformal prediction).
        threshold = scores[min(len(scores), ceil((1 - REFUSED) * (len(scores) + 1))) - 1] + _ROUNDING
        scale = np.array([mean[0], deviation[0], mean[1], deviation[1], threshold], np.float32)
        return cls(plain.centre, plain.whitening, plain.rows, scale)

    def foreign(self, vectors: Floats) -> Bools:
        """Return which vectors are unlike the rows."""
        far, away = self._distances(vectors)
        mean, deviation, mean_near, deviation_near, threshold = self.scale
        return np.asarray((far - mean) / deviation + (away - mean_near) / deviation_near > threshold)

    def fits(self, dimensions: int) -> bool:
        """Return whether the arrays belong together and to vectors of so many dimensions."""
        return (
            (self.centre.shape, self.whitening.shape, self.scale.shape)
            == ((dimensions,), (dimensions, dimensions), (5,))
            and self.rows.ndim == 2
            and 0 < len(self.rows) <= KEPT_ROWS
            and self.rows.shape[1] == dimensions
            and all(np.isfinite(array).all() for array in (self.centre, self.whitening, self.rows, self.scale))
            and bool((self.scale[[1, 3]] > 0).all())
        )

    def _distances(self, vectors: Floats) -> NDArray[np.float32]:
        """Return the distance from the centre and from the nearest rows, (2, vectors)."""
        found = np.empty((2, len(vectors)), np.float32)
        for start in range(0, len(vectors), KEPT_ROWS):
            some = vectors[start : start + KEPT_ROWS]
            found[0, start : start + len(some)] = (((some - self.centre) @ self.whitening) ** 2).sum(axis=1)
            alike = some @ self.rows.T
            nearest = np.partition(alike, -min(_NEIGHBOURS, len(self.rows)), axis=1)[:, -_NEIGHBOURS:]
            found[1, start : start + len(some)] = 1.0 - nearest.mean(axis=1)
        return found


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


def write_head(head: Head, novelty: Novelty, path: Path) -> None:
    """Write the file of a head and its novelty test."""
    header: dict[str, Any] = {}
    arrays: dict[str, Floats] = {"weights": head.weights, "bias": head.bias, **vars(novelty)}
    start = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [np.ascontiguousarray(array, dtype="<f4").tobytes() for array in arrays.values()]
    path.write_bytes(b"".join([struct.pack("<Q", len(text)), text, *parts]))


def read_head(path: Path) -> tuple[Head, Novelty]:
    """Return the head in a file and its novelty test. Raise ConfigurationError, which says what is wrong with the file.
    Nothing in it is run.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} has more than {_MOST_BYTES:,} bytes")
        stored = read_header(path)
        weights, bias = (_floats(path, stored, name) for name in ("weights", "bias"))
        if weights.ndim != 2 or bias.shape != weights.shape[:1] or not np.isfinite(weights).all():
            raise ConfigurationError(f"{path} is no head: its arrays do not fit together")
        novelty = Novelty(**{field.name: _floats(path, stored, field.name) for field in fields(Novelty)})
        if not novelty.fits(weights.shape[1]):
            raise ConfigurationError(f"{path} has no usable novelty test: its arrays do not fit together")
    except (ConfigurationError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"{error}; train the classifier again with `headrace classifier train {path.parent.name}`"
        ) from error
    return Head(weights, bias), novelty


def _floats(path: Path, stored: Mapping[str, StoredTensor], name: str) -> Floats:
    if name not in stored or stored[name].kind != "F32":
        raise ConfigurationError(f"{path} is no head: it has no array {name} of float32")
    return read_tensor(path, stored[name])
