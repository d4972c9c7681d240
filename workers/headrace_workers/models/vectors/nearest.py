"""The nearest vectors, by FAISS: among all of them, or among lists of codes first."""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.models.vectors.vectors import Floats, Positions

Bits = NDArray[np.uint8]


def faiss() -> Any:
    """Return the library, set to one thread for all callers: a search needs no second core, and a rebuild leaves it to
    searches.

    The setting is a thread's own, so it is made at each use; it takes 0.1 microseconds.
    """
    import faiss as library

    library.omp_set_num_threads(1)
    return library


def selector(alive: Bits | None, count: int) -> Any:
    """Return a FAISS selector of the living rows among the first `count`; None if all live. It borrows the bits."""
    if alive is None:
        return None
    return faiss().IDSelectorBitmap(count, faiss().swig_ptr(alive))


# Buffers for FAISS's results of one query: look-ups are interactive, so nothing is allocated for each.
#
# FAISS's own face for numpy allocates and checks at each call; with pointers that are kept it is called past that.


class Buffers:
    """The candidates of a query, and the best of them; `at_` are FAISS's pointers to these. It is one thread's."""

    def __init__(self, candidates: int, k: int) -> None:
        at: Any = faiss().swig_ptr
        self.sizes = candidates, k
        self.candidates, self.estimates = np.empty(candidates, np.int64), np.empty(candidates, np.float32)
        self.positions, self.similarities = np.empty(k, np.int64), np.empty(k, np.float32)
        self.at_candidates, self.at_estimates = at(self.candidates), at(self.estimates)
        self.at_positions, self.at_similarities = at(self.positions), at(self.similarities)

    @property
    def found(self) -> list[tuple[float, int]]:
        """Return similarity and position of the results, best first; ids that are nowhere are left out."""
        pairs = zip(self.similarities.tolist(), self.positions.tolist(), strict=True)
        return [pair for pair in pairs if pair[1] >= 0]


class _Kept(threading.local):
    room: Buffers | None = None


_KEPT = _Kept()


def buffers_for(candidates: int, k: int) -> Buffers:
    """Return this thread's buffers, with room for the candidates and the k best. The next search overwrites them."""
    room = _KEPT.room
    if room is None or room.sizes != (candidates, k):
        room = _KEPT.room = Buffers(candidates, k)
    return room


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
    library, (count, dimension), room = faiss(), vectors.shape, buffers_for(0, k)
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


# Lists of codes: the coarse look at many vectors (FAISS: IVF with RaBitQ), refined by the vectors themselves.
#
# Vectors are sorted into lists around centres (inverted file, IVF) and kept there as one bit a dimension (RaBitQ, arXiv
# 2405.12497: 60 bytes for 384 dimensions). A search estimates distances in the lists nearest to the query and compares
# the best candidates exactly. How many lists that must be depends on the texts, so it is measured when they are built:
# on sentences in MiniLM's vectors it is two fifths of them, on tight groups a sixteenth. Why not HNSW:
# docs/decisions/lists-of-codes.md.
#
# Nothing here changes once it is built: FAISS allows any number of searches beside each other, but no change among
# them.

_LISTS_PER_ROOT: Final = 2.3  # lists, as a multiple of the square root of the number of vectors
_SAMPLES: Final = 32  # vectors a list that its centre is learned from
_ROUNDS: Final = 5  # of k-means
_PROBED: Final = 0.99  # of the nearest neighbours should be in the lists looked into,
_NEIGHBOURS: Final = 15  # counting so many: more than are asked for mostly, since some of them will die
LEAST_PROBES: Final = 16  # and no fewer lists than these
_PROBES: Final = 128  # of each of so many vectors
# So many for each that is asked for are compared exactly, and for the first more: each costs a row from far memory.
_CANDIDATES: Final = 5
_FIRST_CANDIDATES: Final = (10, 100)  # for each, and of all
_QUERY_BITS: Final = 4  # a query's dimension, when distances are estimated


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """The first `covered` rows, sorted into lists; when their centres were learned, there were `trained` rows."""

    index: Any  # faiss.IndexIVFRaBitQ over positions
    trained: int

    @classmethod
    def built(cls, vectors: Floats) -> "Lists":
        """Return lists of all these vectors (n, dimension). It takes one core 2 s for 100,000 of 384 dimensions."""
        library = faiss()
        count, dimension = vectors.shape
        lists = min(count, int(_LISTS_PER_ROOT * count**0.5))
        # L2, though unit vectors rank the same by inner product: its centres found a little more in every measurement.
        index = library.IndexIVFRaBitQ(library.IndexFlatL2(dimension), dimension, lists, library.METRIC_L2)
        index.cp.niter = _ROUNDS
        index.cp.min_points_per_centroid = 1  # it would only warn, on stderr
        index.cp.max_points_per_centroid = _SAMPLES
        index.train(vectors[_spread(count, lists * _SAMPLES)])
        index.add(vectors)
        index.nprobe = _probes(index, vectors)
        return cls(index, count)

    @property
    def covered(self) -> int:
        """The number of rows, from the first on, that are in the lists."""
        return int(self.index.ntotal)

    @property
    def bytes(self) -> int:
        """Memory, about."""
        return self.covered * (int(self.index.code_size) + 8) + int(self.index.nlist) * int(self.index.d) * 4

    def grown(self, vectors: Floats) -> "Lists":
        """Return a copy of these lists that also covers the rows of `vectors`, which follow those covered."""
        grown = faiss().clone_index(self.index)
        grown.add(vectors)
        return Lists(grown, self.trained)

    def nearest(
        self, queries: Floats, k: int, vectors: Floats, alive: Bits | None, living: int
    ) -> tuple[Floats, Positions]:
        """Return the k nearest covered rows of each query, by similarity: (queries, k), best first.

        `vectors` are the rows, `alive` has a bit for each that is covered (None: all live), and `living` is their
        number: where the lists looked into hold fewer than k of them, all lists are.
        """
        if living == 0:
            return nothing(len(queries), k)
        wanted = min(_wanted(k), self.covered)
        candidates = self._candidates(queries, wanted, int(self.index.nprobe), alive)
        short = candidates[:, min(k, living) - 1] < 0  # what was not found stands last
        if short.any():
            candidates[short] = self._candidates(queries[short], wanted, int(self.index.nlist), alive)
        return refined(queries, candidates, vectors, k)

    def nearest_to_one(self, query: Floats, k: int, vectors: Floats, alive: Bits | None, living: int) -> Found:
        """Return the k nearest covered rows to one query, (dimension,): fewer where there are fewer."""
        if living == 0:
            return []
        library, index, covered, most = faiss(), self.index, self.covered, _wanted(k)
        room, at, wanted = buffers_for(most, k), library.swig_ptr(query), min(most, covered)
        bits = selector(alive, covered)  # held here: FAISS borrows it

        def look(probes: int) -> None:
            parameters = _of_all(probes) if bits is None else _parameters(probes, bits)
            index.search_c(1, at, wanted, room.at_estimates, room.at_candidates, parameters)

        look(int(index.nprobe))
        if room.candidates[min(k, living) - 1] < 0:  # what was not found stands last
            look(int(index.nlist))
        library.knn_inner_products_by_idx(
            at, library.swig_ptr(vectors), room.at_candidates, vectors.shape[1], 1, len(vectors), wanted, k,
            room.at_similarities, room.at_positions, wanted,
        )  # fmt: skip
        return room.found

    def _candidates(self, queries: Floats, wanted: int, probes: int, alive: Bits | None) -> Positions:
        living = selector(alive, self.covered)  # held here: FAISS borrows it
        parameters = _of_all(probes) if living is None else _parameters(probes, living)
        _, positions = self.index.search(queries, wanted, params=parameters)
        return np.asarray(positions, np.int64)

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the lists as FAISS writes them."""
        return np.asarray(faiss().serialize_index(self.index), np.uint8)

    @classmethod
    def from_bytes(cls, written: NDArray[np.uint8], trained: int) -> "Lists":
        """Return lists from the bytes of `to_bytes`, whose checksum is right. Raise RuntimeError where this FAISS
        reads them no more.
        """
        return cls(faiss().deserialize_index(written), trained)


def _wanted(k: int) -> int:
    """Return how many candidates are compared exactly."""
    each, most = _FIRST_CANDIDATES
    return max(_CANDIDATES * k, min(each * k, most))


def _parameters(probes: int, living: Any = None) -> Any:
    return faiss().IVFRaBitQSearchParameters(nprobe=probes, qb=_QUERY_BITS, sel=living)


# FAISS only reads them: one value for all searches.
_of_all = lru_cache(maxsize=64)(_parameters)


def _probes(index: Any, vectors: Floats) -> int:
    """Return how many lists a search must read, by the nearest neighbours of some of the vectors themselves."""
    queries = vectors[_spread(len(vectors), _PROBES)]
    _, near = nearest_of_all(queries, vectors, None, min(_NEIGHBOURS + 1, len(vectors)))
    near = near[:, 1:]  # the first is the vector itself
    if not near.size:
        return LEAST_PROBES
    centres, lists = index.quantizer, int(index.nlist)
    _, order = centres.search(queries, lists)
    _, of_each = centres.search(vectors[near.ravel()], 1)
    ranks = np.argsort(order, axis=1)  # of each list, by its distance from the query
    needed = np.take_along_axis(ranks, of_each.reshape(near.shape), axis=1)
    return max(LEAST_PROBES, int(np.quantile(needed, _PROBED)) + 1)


def _spread(count: int, wanted: int) -> Positions:
    """Return positions spread evenly over all: the first and the last vectors may differ."""
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)
