"""The nearest of some vectors by comparing all of them, and the best of what several places found.

The inner products are FAISS's: numpy leaves them to a BLAS, whose threads wait for each other on a busy machine (4 ms
in place of 0.3 for 10,000 vectors).
"""

from typing import Final

import numpy as np

from headrace_workers.index.checked import Floats, Positions
from headrace_workers.index.library import Bits, faiss, selector

NOWHERE: Final = -1  # the position, and the id, where there is nothing; its similarity is minus infinity


def nearest_of_all(queries: Floats, vectors: Floats, alive: Bits | None, k: int) -> tuple[Floats, Positions]:
    """The k living rows with the largest inner product: similarities and positions, both (queries, k), best first."""
    library, (count, dimension) = faiss(), vectors.shape
    similarities, positions = nothing(len(queries), k)
    at = library.swig_ptr
    living = selector(alive, count)
    library.knn_inner_product(
        at(queries), at(vectors), dimension, len(queries), count, k, at(similarities), at(positions), living
    )
    similarities[positions == NOWHERE] = -np.inf  # FAISS writes the smallest number that there is
    return similarities, positions


def refined(queries: Floats, candidates: Positions, vectors: Floats, k: int) -> tuple[Floats, Positions]:
    """The k best of each query's candidates, (queries, any number), by their inner product."""
    library, (count, width) = faiss(), candidates.shape
    similarities = np.empty(candidates.shape, np.float32)
    at = library.swig_ptr
    library.fvec_inner_products_by_idx(
        at(similarities), at(queries), at(vectors), at(candidates), vectors.shape[1], count, width
    )
    if width and candidates[:, -1].min() == NOWHERE:  # what there is not stands last
        similarities[candidates == NOWHERE] = -np.inf
    return best(similarities, candidates, k)


def best(similarities: Floats, positions: Positions, k: int) -> tuple[Floats, Positions]:
    """The k largest similarities of each row, in order, with their positions; rows may be shorter than k."""
    width = similarities.shape[1]
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    if len(order) == 1:  # a look-up's: half of the calls
        top, at = similarities[:, order[0]], positions[:, order[0]]
    else:
        rows = np.arange(len(order))[:, None]
        top, at = similarities[rows, order], positions[rows, order]
    if width >= k:
        return top, at
    longer, longer_at = nothing(len(top), k)
    longer[:, :width], longer_at[:, :width] = top, at
    return longer, longer_at


def nothing(queries: int, k: int) -> tuple[Floats, Positions]:
    """What is found where there is nothing: minus infinity, nowhere."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NOWHERE, np.int64)
