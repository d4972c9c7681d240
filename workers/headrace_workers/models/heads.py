"""Heads: logistic regressions over the vectors of an embedder, their training, and their files.

A file is in the safetensors format. Its metadata has the embedder, the names, and a checksum of all that it says. Other
arrays that belong to a head stand beside it. Nothing in a file is run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.stats.minimum import minimum

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Labels = NDArray[np.intp]

MOST_BYTES: Final = 128_000_000  # of a file
_AT_ONCE: Final = 4_096  # rows whose probabilities are computed together
_LEAST: Final = np.finfo(np.float32).tiny
_SETTLED: Final = 1e-6  # of the gradient's largest part: below it 32 bits are too few


@dataclass(frozen=True)
class Head:
    """A row of weights and a bias for each class, over vectors of length 1 by the embedder of this id. `names` are of
    the classes, where no card names them.
    """

    embedder: str
    weights: Floats  # (classes, dimensions)
    bias: Floats  # (classes,)
    names: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Return the beginning of its checksum."""
        return _checksum(*_packed(self, {}))[:12]

    def logits(self, vectors: Floats) -> Floats:
        """Return the logit of each class, (vectors, classes)."""
        return np.asarray(vectors @ self.weights.T + self.bias, dtype=np.float32)

    def scaled(self, factor: float) -> Self:
        """Return the head whose logits are so many times these."""
        return replace(self, weights=self.weights * np.float32(factor), bias=self.bias * np.float32(factor))

    def check_embedder(self, embedder: Embedder, what: str, trained_by: str) -> None:
        """Raise ConfigurationError where the head belongs to another embedder."""
        if embedder.id != self.embedder or embedder.dimensions != self.weights.shape[1]:
            raise ConfigurationError(
                f"{what} was trained over {self.embedder}, and the embedder here is {embedder.id}: train it again with "
                f"`{trained_by}`, or set HEADRACE_EMBEDDER"
            )


def softmax(logits: Floats) -> Floats:
    """Return the probabilities of classes of which one is right, in each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each class for itself."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def log_loss(logits: Floats, labels: Labels) -> float:
    """Return the mean of -log of the probability of each row's label."""
    total = 0.0
    for start in range(0, len(labels), _AT_ONCE):
        some = logits[start : start + _AT_ONCE].astype(np.float64)
        some -= some.max(axis=1, keepdims=True)
        right = some[np.arange(len(some)), labels[start : start + _AT_ONCE]]
        total += float((np.log(np.exp(some).sum(axis=1)) - right).sum())
    return total / max(1, len(labels))


def fit(vectors: Floats, labels: Labels, classes: int, strength: float) -> tuple[Floats, Floats]:
    """Return the weights and the bias of a multinomial logistic regression for these rows, whose labels are numbers of
    classes. `strength` is scikit-learn's C.
    """
    count, dimensions = vectors.shape
    ridge = 1.0 / (strength * count)  # the bias is free

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = at.reshape(classes, dimensions + 1)
        weights, bias = table[:, :-1].astype(np.float32), table[:, -1].astype(np.float32)
        total, gradient = 0.0, np.zeros_like(table)
        for start in range(0, count, _AT_ONCE):
            some, own = vectors[start : start + _AT_ONCE], labels[start : start + _AT_ONCE]
            logits, numbers = some @ weights.T + bias, np.arange(len(own))
            miss = softmax(logits)
            total -= float(np.log(np.maximum(miss[numbers, own], _LEAST)).sum(dtype=np.float64))
            miss[numbers, own] -= 1.0
            gradient[:, :-1] += miss.T @ some
            gradient[:, -1] += miss.sum(axis=0)
        gradient /= count
        gradient[:, :-1] += ridge * table[:, :-1]
        return total / count + ridge / 2 * float(np.square(table[:, :-1]).sum()), gradient.ravel()

    found = minimum(loss, np.zeros(classes * (dimensions + 1)), _SETTLED).reshape(classes, dimensions + 1)
    return found[:, :-1].astype(np.float32), found[:, -1].astype(np.float32)


def fit_binary(vectors: Floats, positive: Bools, strength: float) -> tuple[Floats, float]:
    """Return the weights and the bias of a logistic regression. Raise ValueError where all labels are the same."""
    if positive.all() or not positive.any():
        raise ValueError("there must be rows of both kinds")
    # Two classes of opposite weights share what the ridge of one would be.
    weights, bias = fit(vectors, positive.astype(np.intp), 2, strength / 2)
    return weights[1] - weights[0], float(bias[1] - bias[0])


def save_head(path: Path, head: Head, beside: Mapping[str, Floats]) -> None:
    """Write the file of a head and the arrays beside it; it is there whole, or not at all."""
    header, data = _packed(head, beside)
    header["__metadata__"]["sha256"] = _checksum(header, data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(len(text).to_bytes(8, "little") + text + data)
    new.replace(path)


def load_head(path: Path, trained_by: str) -> tuple[Head, dict[str, Floats]]:
    """Return the head in a file and the arrays beside it. Raise ConfigurationError, which says what is wrong with the
    file and that the command `trained_by` writes one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        end = 8 + int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8:end]), content[end:]
        about = header["__metadata__"]
        if about.pop("sha256") != _checksum(header, data):
            raise ValueError("its checksum is wrong")
        arrays = {name: _array(data, name, entry) for name, entry in header.items() if name != "__metadata__"}
        head = Head(about["embedder"], arrays.pop("weights"), arrays.pop("bias"), tuple(json.loads(about["names"])))
        if head.weights.ndim != 2 or head.bias.shape != head.weights.shape[:1]:
            raise ValueError("its arrays do not fit together")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"the head {path} cannot be used: {error}; `{trained_by}` writes one") from error
    return head, arrays


def _packed(head: Head, beside: Mapping[str, Floats]) -> tuple[dict[str, Any], bytes]:
    """Return the header of a head's file, without its checksum, and what comes after it."""
    header: dict[str, Any] = {"__metadata__": {"embedder": head.embedder, "names": json.dumps(head.names)}}
    start = 0
    arrays = {"weights": head.weights, "bias": head.bias, **beside}
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    return header, b"".join(np.ascontiguousarray(array, dtype="<f4").tobytes() for array in arrays.values())


def _checksum(header: Mapping[str, Any], data: bytes) -> str:
    return sha256(json.dumps(header).encode() + data).hexdigest()


def _array(data: bytes, name: str, entry: Mapping[str, Any]) -> Floats:
    start, end = entry["data_offsets"]
    array = np.frombuffer(data[start:end], "<f4").astype(np.float32).reshape(entry["shape"])
    if entry["dtype"] != "F32" or not np.isfinite(array).all():
        raise ValueError(f"{name} is not of finite 32-bit floats")
    return array
