"""The terms of a passage as an index takes them, and as the ledger keeps them: to count them is most of the work of
reading a base. Pure.

Terms are 64-bit hashes, so that an index needs no vocabulary beside it (with a million terms, two share one with a
probability of 3e-8).
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.knowledge.words import term_counts

VERSION: Final = 1  # of how a text becomes terms: with another, the terms in the ledger are counted again
_MOST: Final = 0xFFFF  # the most occurrences of a term in a passage that are stored
_HEAD: Final = struct.Struct("<BII")  # version, terms, length
_KEY_BYTES: Final = 8
_COUNT_BYTES: Final = 2


@lru_cache(maxsize=1 << 17)
def key_of(term: str) -> int:
    """Return the hash by which a term is known, in every process the same."""
    return int.from_bytes(blake2b(term.encode("utf-8", "replace"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of a text by their keys, and how often each is in it; `length` counts all, repetitions included."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.uint16]
    length: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Count them."""
        counted = term_counts(text)
        size = len(counted)
        return cls(
            np.fromiter(map(key_of, counted), np.uint64, size),
            np.fromiter((min(times, _MOST) for times in counted.values()), np.uint16, size),
            counted.total(),
        )

    def to_bytes(self) -> bytes:
        """Return the terms as the ledger keeps them, whatever the machine's byte order: ten bytes a term."""
        head = _HEAD.pack(VERSION, len(self.keys), self.length)
        return head + self.keys.astype("<u8").tobytes() + self.counts.astype("<u2").tobytes()

    @classmethod
    def from_bytes(cls, written: bytes | None) -> Self | None:
        """Return the terms that `to_bytes` wrote; None if the bytes are of another version, or nothing of the kind."""
        if written is None or len(written) < _HEAD.size:
            return None
        version, size, length = _HEAD.unpack_from(written)
        if version != VERSION or len(written) != _HEAD.size + size * (_KEY_BYTES + _COUNT_BYTES):
            return None
        keys = np.frombuffer(written, "<u8", size, _HEAD.size)
        counts = np.frombuffer(written, "<u2", size, _HEAD.size + size * _KEY_BYTES)
        return cls(keys.astype(np.uint64, copy=False), counts.astype(np.uint16, copy=False), length)
