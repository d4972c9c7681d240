"""Vectors of length 1, and how they go into events."""

import base64
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_length(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return each row divided by its length; shape (n, d). A row of zeros stays a row of zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def packed(vector: "NDArray[np.float32]", dimensions: int) -> str:
    """Return the first so many dimensions of a vector (d,), scaled to length 1 again: float32, little-endian, as
    base64.
    """
    shown = vector if dimensions == len(vector) else unit_length(vector[None, :dimensions])[0]
    return base64.b64encode(shown.astype("<f4").tobytes()).decode()
