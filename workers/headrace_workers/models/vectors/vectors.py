"""Vectors of an index: checked before they enter it, and kept in the order in which they came."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace_schemas.errors import Category, HeadraceError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]
Table = NDArray[Any] | Sequence[ArrayLike]  # vectors as a caller has them: an array, or one after the other

UNIT_WITHIN: Final = 1e-3  # how far a vector's length may be from 1
_SQUARES: Final = ((1 - UNIT_WITHIN) ** 2, (1 + UNIT_WITHIN) ** 2)


class VectorRefused(HeadraceError):
    """A vector that cannot be kept or looked for: of the wrong length, not finite, or not of unit length."""

    category: ClassVar[Category] = Category.INVALID


def checked_ids(ids: ArrayLike) -> Ids:
    """Return ids as (n,) int64. Raise VectorRefused for an id that is no whole number from 0 to 2^63 - 1."""
    given = np.asarray(ids)
    if given.size == 0:
        return np.empty(0, np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise VectorRefused(f"ids must be a row of whole numbers below 2^63, not {given.dtype} of shape {given.shape}")
    if int(given.min()) < 0 or int(given.max()) >= 1 << 63:
        bad = int(given.min()) if int(given.min()) < 0 else int(given.max())
        raise VectorRefused(f"id {bad} is not from 0 to 2^63 - 1 (-1 says in results that there is none)")
    return given.astype(np.int64)


def checked_vectors(kind: str, keys: Sequence[int], vectors: Table, dimension: int) -> Floats:
    """Return vectors as (n, dimension) float32.

    Raise VectorRefused, which names the first that is not of unit length (`id 7`).
    """
    if len(vectors) != len(keys):
        raise VectorRefused(f"{len(vectors)} vectors came for {len(keys)} ids")
    if not len(vectors):
        return np.empty((0, dimension), np.float32)
    # The rows of an array are all of one shape: the first tells.
    for key, row in zip(keys, vectors[:1] if isinstance(vectors, np.ndarray) else vectors, strict=False):
        if np.shape(row) != (dimension,):
            raise VectorRefused(
                f"the vector of {kind} {key} has shape {np.shape(row)}; this index takes ({dimension},)"
            )
    table = _as_float32(vectors)
    squares = np.einsum("nd,nd->n", table, table)
    good = (squares >= _SQUARES[0]) & (squares <= _SQUARES[1])  # false for NaN, too
    if not good.all():
        at = int(np.flatnonzero(~good)[0])
        length = float(squares[at]) ** 0.5
        what = f"has length {length:.6g}, not 1" if np.isfinite(table[at]).all() else "holds NaN or infinity"
        raise VectorRefused(f"the vector of {kind} {keys[at]} {what}: only vectors of unit length are taken")
    return table


def checked_query(vector: Floats, dimension: int) -> Floats:
    """Return one vector, (dimension,), as float32. Raise VectorRefused unless it has unit length."""
    as_it_is = vector.dtype == np.float32 and vector.shape == (dimension,) and vector.flags.c_contiguous
    if as_it_is and _SQUARES[0] <= vector.dot(vector) <= _SQUARES[1]:  # not so for NaN
        return vector
    return checked_vectors("query", (0,), vector[None], dimension)[0]  # type: ignore[no-any-return]


def _as_float32(vectors: Table) -> Floats:
    if isinstance(vectors, np.ndarray) and vectors.dtype == np.float32:
        return np.ascontiguousarray(vectors)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused
        return np.ascontiguousarray(vectors, dtype=np.float32)


def read_vectors(kind: str, keys: Sequence[int], written: Sequence[bytes], dimension: int) -> Floats:
    """Return vectors from a ledger's bytes, float32, (n, dimension). Raise VectorRefused for the first invalid one."""
    for key, data in zip(keys, written, strict=True):
        if len(data) != 4 * dimension:
            raise VectorRefused(f"the vector of {kind} {key} has {len(data)} bytes; this index takes {4 * dimension}")
    table = np.frombuffer(b"".join(written), np.float32).reshape(len(keys), dimension) if written else ()
    return checked_vectors(kind, keys, table, dimension)


def read_vector(kind: str, key: int, written: bytes, dimension: int) -> Floats:
    """Return one vector, (dimension,), from a ledger's bytes."""
    return read_vectors(kind, [key], [written], dimension)[0]  # type: ignore[no-any-return]


_BLOCK = 4096  # rows that are copied in one go, so that other threads are not held up


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """`len(alive)` rows: vectors (at least so many, dimension), their ids, and which of them still live."""

    vectors: Floats
    ids: Ids
    alive: Flags
    living: int

    @classmethod
    def empty(cls, dimension: int) -> "Rows":
        """Return no rows, for vectors of this many dimensions."""
        return cls(np.empty((0, dimension), np.float32), np.empty(0, np.int64), np.empty(0, np.bool_), 0)

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""
        return int(self.vectors.shape[1])

    @property
    def count(self) -> int:
        """The number of rows, dead ones included."""
        return len(self.alive)

    @property
    def dead(self) -> int:
        """The number of rows that no longer live."""
        return self.count - self.living

    def changed(self, dying: Positions, ids: Ids, vectors: Floats) -> "Rows":
        """Return these rows without those at `dying` (all alive, none twice), and with new ones at the end."""
        before, after = self.count, self.count + len(ids)
        kept_vectors, kept_ids = self.vectors, self.ids
        if after > len(kept_ids):
            room = max(after, before + before // 2)
            kept_vectors = np.empty((room, self.dimension), np.float32)
            kept_ids = np.empty(room, np.int64)
            _copy(self.vectors[:before], kept_vectors)
            kept_ids[:before] = self.ids[:before]
        kept_vectors[before:after] = vectors
        kept_ids[before:after] = ids
        alive = np.empty(after, np.bool_)
        alive[:before] = self.alive
        alive[dying] = False
        alive[before:] = True
        return Rows(kept_vectors, kept_ids, alive, self.living - len(dying) + len(ids))

    def packed(self, positions: Positions) -> "Rows":
        """Return a copy of the rows at these positions alone, in their order, with some room to grow."""
        count = len(positions)
        room = count + count // 8
        vectors, ids = np.empty((room, self.dimension), np.float32), np.empty(room, np.int64)
        for start in range(0, count, _BLOCK):
            end = min(start + _BLOCK, count)
            vectors[start:end] = self.vectors[positions[start:end]]
        ids[:count] = self.ids[positions]
        return Rows(vectors, ids, np.ones(count, np.bool_), count)


def _copy(source: Floats, target: Floats) -> None:
    for start in range(0, len(source), _BLOCK):
        target[start : start + _BLOCK][: len(source) - start] = source[start : start + _BLOCK]
