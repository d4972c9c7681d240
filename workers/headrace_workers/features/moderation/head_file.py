"""A trained head on disk: a few arrays in an .npz, read without pickle, and checked before it is believed."""

import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import HazardName

MAX_BYTES: Final = 16_000_000
MAX_CATEGORIES: Final = 64
_NAME: Final[TypeAdapter[str]] = TypeAdapter(HazardName)
_ARRAYS: Final = ("weights", "bias", "categories", "embedder")


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
