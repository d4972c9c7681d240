"""Heads: a logistic regression over a sentence's vector, its file, and the detector that uses it."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import HazardName
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part
from headrace_workers.features.moderation.segments import Part, segments
from headrace_workers.models.embedders.embedder import Embedder

MAX_BYTES: Final = 16_000_000
MAX_CATEGORIES: Final = 64
_NAME: Final[TypeAdapter[str]] = TypeAdapter(HazardName)
_ARRAYS: Final = ("weights", "bias", "categories", "embedder")
SCORE_FLOOR: Final = 0.5  # findings below it are reported once a text and category, for the score
_AT_ONCE: Final = 256  # parts


@dataclass(frozen=True)
class Head:
    """A logistic regression for each category over vectors of one embedder, which `embedder` names by its id."""

    categories: tuple[str, ...]
    weights: NDArray[np.float32]  # (categories, dimensions)
    bias: NDArray[np.float32]  # (categories,)
    embedder: str

    @property
    def version(self) -> str:
        """A digest of what it says."""
        parts = [repr((self.categories, self.embedder)).encode(), self.weights.tobytes(), self.bias.tobytes()]
        return sha256(b"".join(parts)).hexdigest()[:12]

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of each category, (vectors, categories)."""
        logits = vectors.astype(np.float64) @ self.weights.T.astype(np.float64) + self.bias
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def save_head(head: Head, path: Path) -> None:
    """Write it; the file is there whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        np.savez(
            file,
            weights=head.weights,
            bias=head.bias,
            categories=np.array(head.categories),
            embedder=np.array(head.embedder),
        )
    new.replace(path)


def load_head(path: Path) -> Head:
    """Read one; ConfigurationError says what is wrong with it. Nothing in the file is run."""
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MAX_BYTES:
            raise ConfigurationError(f"moderation head {path} unpacks to {size} bytes; at most {MAX_BYTES} are taken")
        with np.load(path, allow_pickle=False) as arrays:
            weights, bias, categories, embedder = (arrays[name] for name in _ARRAYS)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"moderation head {path} cannot be read: {error}. `headrace moderation train` writes one"
        ) from error
    return _checked(path, weights, bias, categories, embedder)


def _checked(
    path: Path, weights: NDArray[np.float32], bias: NDArray[np.float32], categories: NDArray[np.str_], embedder: object
) -> Head:
    names = tuple(map(str, categories.tolist())) if categories.ndim == 1 else ()
    if not 1 <= len(names) <= MAX_CATEGORIES or len(set(names)) < len(names):
        raise ConfigurationError(f"moderation head {path} must have 1 to {MAX_CATEGORIES} categories, each once")
    for name in names:
        try:
            _NAME.validate_python(name)
        except ValidationError:
            raise ConfigurationError(f"moderation head {path}: {name[:80]!r} is no category's name") from None
    if weights.ndim != 2 or weights.shape[0] != len(names) or bias.shape != (len(names),):
        raise ConfigurationError(f"moderation head {path}: its weights are not of {len(names)} categories")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in (weights, bias)):
        raise ConfigurationError(f"moderation head {path}: its weights must be finite 32-bit floats")
    return Head(names, weights, bias, str(embedder))


class HeadDetector:
    """Finds the head's categories. The score is its probability for a part of the text, which is the span."""

    reads_words = True

    def __init__(self, head: Head, embedder: Embedder, name: str = "head") -> None:
        """Use a head, which verdicts call `name`. Raise ConfigurationError where it belongs to another embedder."""
        if embedder.id != head.embedder or embedder.dimensions != head.weights.shape[1]:
            raise ConfigurationError(
                f"the moderation head was trained over {head.embedder}, and the embedder here is {embedder.id}: "
                "train it again (`headrace moderation train`), or set HEADRACE_EMBEDDER"
            )
        self._head, self._embedder = head, embedder
        self.name = name
        self.categories = frozenset(head.categories)
        self.version = with_part(head.version)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return, for each category, the parts that the head is sure of, and in any case the one that it is surest
        of.
        """
        return found_in_parts(texts, self._head.categories, self._scores)

    def _scores(self, parts: Sequence[str]) -> NDArray[np.float64]:
        return self._head.scores(self._embedder.embed(parts))


def found_in_parts(
    texts: Sequence[str], categories: Sequence[str], score: Callable[[Sequence[str]], NDArray[np.float64]]
) -> list[list[Detection]]:
    """Return, for each category, the parts of each text that score 0.5 or more, and in any case the highest one."""
    parts = [segments(text) for text in texts]
    cut = [text[slice(*part)] for text, own in zip(texts, parts, strict=True) for part in own]
    groups = [score(cut[at : at + _AT_ONCE]) for at in range(0, len(cut), _AT_ONCE)]
    scores = np.concatenate(groups) if groups else np.empty((0, len(categories)))
    found, at = [], 0
    for own in parts:
        found.append(_found(own, categories, scores[at : at + len(own)]))
        at += len(own)
    return found


def _found(parts: Sequence[Part], categories: Sequence[str], scores: NDArray[np.float64]) -> list[Detection]:
    if not parts:
        return []
    found = []
    for category, column in zip(categories, scores.T, strict=True):
        sure = {int(column.argmax()), *np.flatnonzero(column >= SCORE_FLOOR).tolist()}
        found += [Detection(category, float(column[at]), *parts[at]) for at in sorted(sure)[:MAX_DETECTIONS]]
    return found
