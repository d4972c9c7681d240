"""Vectors that lie as texts do: few latent dimensions, groups of uneven size. Even noise would mislead lists."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def unit(vectors: NDArray[np.generic]) -> Floats:
    table = np.asarray(vectors, np.float32)
    return table / np.linalg.norm(table, axis=-1, keepdims=True).astype(np.float32)


def clustered(count: int, dimension: int, seed: int = 0, latent: int = 24) -> Floats:
    chance = np.random.default_rng(seed)
    groups = chance.standard_normal((100, latent))
    of_each = np.minimum(chance.zipf(1.5, count), len(groups)) - 1
    inner = 0.8 * groups[of_each] + chance.standard_normal((count, latent))
    outer = inner @ chance.standard_normal((latent, dimension)) / latent**0.5
    return unit(outer + 0.15 * chance.standard_normal((count, dimension)) + 0.3)


def truth(queries: Floats, vectors: Floats, k: int) -> NDArray[np.int64]:
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    return float(np.mean([len({*f} & {*e}) / len(e) for f, e in zip(found.tolist(), expected.tolist(), strict=True)]))
