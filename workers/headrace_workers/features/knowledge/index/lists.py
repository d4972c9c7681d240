"""Lists of codes: the coarse look at many vectors (FAISS: IVF with RaBitQ), refined by the vectors themselves.

Vectors are sorted into lists around centres (inverted file, IVF) and kept there as one bit a dimension (RaBitQ, arXiv
2405.12497: 60 bytes for 384 dimensions). A search estimates distances in the lists nearest to the query and compares
the best candidates exactly. How many lists that must be depends on the texts, so it is measured when they are built:
on sentences in MiniLM's vectors it is two fifths of them, on tight groups a sixteenth. Why not HNSW:
docs/decisions/lists-of-codes.md.

Nothing here changes once it is built: FAISS allows any number of searches beside each other, but no change among them.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.knowledge.index.faiss_library import Bits, faiss, selector
from headrace_workers.features.knowledge.index.nearest import Found, nearest_of_all, nothing, refined
from headrace_workers.features.knowledge.index.search_buffers import room_for
from headrace_workers.features.knowledge.index.vector_checks import Floats, Positions

_LISTS_PER_ROOT: Final = 2.3  # lists, as a multiple of the square root of the number of vectors
_SAMPLES: Final = 32  # vectors a list that its centre is learned from
_ROUNDS: Final = 5  # of k-means
_PROBED: Final = 0.99  # of the nearest neighbours should be in the lists looked into,
_NEIGHBOURS: Final = 15  # counting so many: more than are asked for mostly, since some of them will die
_LEAST_PROBES: Final = 16  # and no fewer lists than these
_PROBES: Final = 128  # of each of so many vectors
# So many for each that is asked for are compared exactly, and for the first more: each costs a row from far memory.
_CANDIDATES: Final = 5
_FIRST_CANDIDATES: Final = (10, 100)  # for each, and of all
_QUERY_BITS: Final = 4  # a query's dimension, when distances are estimated


class NotLists(ValueError):
    """Bytes that are not lists of codes, or not the requested ones."""


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
        found = self._candidates(queries, wanted, int(self.index.nprobe), alive)
        short = found[:, min(k, living) - 1] < 0  # what was not found stands last
        if short.any():
            found[short] = self._candidates(queries[short], wanted, int(self.index.nlist), alive)
        return refined(queries, found, vectors, k)

    def nearest_to_one(self, query: Floats, k: int, vectors: Floats, alive: Bits | None, living: int) -> Found:
        """Return the k nearest covered rows to one query, (dimension,): fewer where there are fewer."""
        if living == 0:
            return []
        library, index, covered, most = faiss(), self.index, self.covered, _wanted(k)
        room, at, wanted = room_for(most, k), library.swig_ptr(query), min(most, covered)
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
    def from_bytes(cls, written: NDArray[np.uint8], trained: int, covered: int, dimension: int) -> "Lists":
        """Return lists from the bytes of `to_bytes`. Raise NotLists for other bytes. Check their checksum before."""
        library = faiss()
        try:
            index = library.deserialize_index(written)
        except RuntimeError as error:
            raise NotLists(f"FAISS cannot read it: {' '.join(str(error).split())[:200]}") from error
        if not isinstance(index, library.IndexIVFRaBitQ) or not index.is_trained:
            raise NotLists(f"it is a {type(index).__name__}, not trained lists of RaBitQ codes")
        if (index.ntotal, index.d) != (covered, dimension):
            raise NotLists(f"it holds {index.ntotal} x {index.d}, not {covered} x {dimension}")
        return cls(index, trained)


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
        return _LEAST_PROBES
    centres, lists = index.quantizer, int(index.nlist)
    _, order = centres.search(queries, lists)
    _, of_each = centres.search(vectors[near.ravel()], 1)
    ranks = np.argsort(order, axis=1)  # of each list, by its distance from the query
    needed = np.take_along_axis(ranks, of_each.reshape(near.shape), axis=1)
    return max(_LEAST_PROBES, int(np.quantile(needed, _PROBED)) + 1)


def _spread(count: int, wanted: int) -> Positions:
    """Return positions spread evenly over all: the first and the last vectors may differ."""
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)
