"""The nearest of some vectors by comparing all of them, and the best of what several places found.

The inner products are FAISS's: numpy leaves them to a BLAS, whose threads wait for each other on a busy machine (4 ms
in place of 0.3 for 10,000 vectors).
"""

from typing import Final

import numpy as np

from headrace_workers.features.knowledge.index.faiss_library import Bits, faiss, selector
from headrace_workers.features.knowledge.index.search_buffers import room_for
from headrace_workers.features.knowledge.index.vector_checks import Floats, Positions

Found = list[tuple[float, int]]  # of one query: similarity and position of each, best first

NOWHERE: Final = -1  # the position, and the id, where there is nothing; its similarity is minus infinity


def nearest_of_all(queries: Floats, vectors: Floats, alive: Bits | None, k: int) -> tuple[Floats, Positions]:
    """Return the k living rows with the largest inner product: similarities and positions, both (queries, k), best
    first.
    """
    library, (count, dimension) = faiss(), vectors.shape
    similarities, positions = nothing(len(queries), k)
    at = library.swig_ptr
    living = selector(alive, count)
    library.knn_inner_product(
        at(queries), at(vectors), dimension, len(queries), count, k, at(similarities), at(positions), living
    )
    similarities[positions == NOWHERE] = -np.inf  # FAISS writes the smallest number that there is
    return similarities, positions


def nearest_to_one(query: Floats, vectors: Floats, alive: Bits | None, k: int) -> Found:
    """Return the k nearest living rows to one query, (dimension,): fewer where there are fewer."""
    library, (count, dimension), room = faiss(), vectors.shape, room_for(0, k)
    living = selector(alive, count)  # held here: FAISS borrows it
    library.knn_inner_product(
        library.swig_ptr(query), library.swig_ptr(vectors), dimension, 1, count, k, room.at_similarities,
        room.at_positions, living,
    )  # fmt: skip
    return room.found


def refined(queries: Floats, candidates: Positions, vectors: Floats, k: int) -> tuple[Floats, Positions]:
    """Return the k best of each query's candidates, (queries, any number), by their inner product.

    A candidate without a position comes last.
    """
    library, (count, width), (rows, dimension) = faiss(), candidates.shape, vectors.shape
    similarities, positions = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    at = library.swig_ptr
    library.knn_inner_products_by_idx(
        at(queries), at(vectors), at(candidates), dimension, count, rows, width, k, at(similarities), at(positions),
        width,  # from one query's candidates to the next: left out, it would be the number of all rows
    )  # fmt: skip
    if count and positions[:, -1].min() == NOWHERE:
        similarities[positions == NOWHERE] = -np.inf  # FAISS writes the smallest number that there is
    return similarities, positions


def best(similarities: Floats, positions: Positions, k: int) -> tuple[Floats, Positions]:
    """Return the k largest similarities of each row, in order, with their positions. Each row has k at least."""
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    if len(order) == 1:  # a look-up's: half of the calls
        return similarities[:, order[0]], positions[:, order[0]]
    rows = np.arange(len(order))[:, None]
    return similarities[rows, order], positions[rows, order]


def nothing(queries: int, k: int) -> tuple[Floats, Positions]:
    """Return the result of a search without rows: minus infinity, nowhere."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NOWHERE, np.int64)
