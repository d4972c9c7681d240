"""Labelled vectors."""

import numpy as np


def rows(count: int, classes: int = 4, dimensions: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of length 1 about a centre for each class, and their classes."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, dimensions))
    labels = random.integers(0, classes, count)
    vectors = centres[labels] + random.normal(size=(count, dimensions)) * 1.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels
