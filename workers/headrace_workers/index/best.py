"""The nearest of some vectors by comparing all of them, and the best of what several places found."""

from typing import Final

import numpy as np

from headrace_workers.index.checked import Flags, Floats, Positions

NOWHERE: Final = -1  # the position, and the id, where there is nothing; its similarity is minus infinity
_AT_ONCE: Final = 4_000_000  # similarities in memory at a time


def nearest_of_all(queries: Floats, vectors: Floats, alive: Flags, k: int) -> tuple[Floats, Positions]:
    """The k living rows with the largest inner product: similarities and positions, both (queries, k), best first."""
    dead = np.flatnonzero(~alive)
    step = max(1, _AT_ONCE // max(1, len(vectors)))
    found = [_nearest(queries[start : start + step], vectors, dead, k) for start in range(0, len(queries), step)]
    if len(found) == 1:
        return found[0]
    return (
        nothing(0, k) if not found else (np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))
    )


def _nearest(queries: Floats, vectors: Floats, dead: Positions, k: int) -> tuple[Floats, Positions]:
    similarities = queries @ vectors.T
    similarities[:, dead] = -np.inf
    return best(similarities, None, k)


def best(similarities: Floats, positions: Positions | None, k: int) -> tuple[Floats, Positions]:
    """The k largest of each row, in order, and their positions (None: their columns); what is -inf is nowhere."""
    width = similarities.shape[1]
    if width > k:
        order = np.argpartition(similarities, width - k, axis=1)[:, width - k :]
        top = np.take_along_axis(similarities, order, axis=1)
        sort = np.argsort(-top, axis=1, kind="stable")
        order, top = np.take_along_axis(order, sort, axis=1), np.take_along_axis(top, sort, axis=1)
    else:
        order = np.argsort(-similarities, axis=1, kind="stable")
        top = np.take_along_axis(similarities, order, axis=1)
    at = order if positions is None else np.take_along_axis(positions, order, axis=1)
    at = np.where(np.isneginf(top), NOWHERE, at)
    if width >= k:
        return top, at
    wide, wide_at = nothing(len(top), k)
    wide[:, :width], wide_at[:, :width] = top, at
    return wide, wide_at


def nothing(queries: int, k: int) -> tuple[Floats, Positions]:
    """What is found where there is nothing: minus infinity, nowhere."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NOWHERE, np.int64)
