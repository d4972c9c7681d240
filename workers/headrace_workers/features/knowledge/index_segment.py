"""A part of the inverted index that never changes: which terms stand in which chunks, how often. Pure.

Postings take 6 bytes each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.knowledge.terms import Terms


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Chunks by slot, and postings by term: the postings of terms[i] are [starts[i]:starts[i + 1]].

    A chunk that was removed stays, but is not `alive`.
    """

    ids: tuple[str, ...]
    owners: NDArray[np.int64]  # by slot: the number of the document it is of
    lengths: NDArray[np.int32]  # by slot: its terms, repetitions included
    alive: NDArray[np.bool_]  # by slot
    terms: NDArray[np.uint64]  # ascending
    starts: NDArray[np.int64]
    slots: NDArray[np.int32]  # by posting
    counts: NDArray[np.uint16]  # by posting

    @classmethod
    def of(cls, chunks: Sequence[tuple[str, int, Terms]]) -> Self:
        """From (id, the document's number, terms with their counts), one at least."""
        sizes = [len(terms.keys) for _, _, terms in chunks]
        return cls._sorted(
            tuple(id_ for id_, _, _ in chunks),
            np.array([owner for _, owner, _ in chunks], np.int64),
            np.array([terms.length for _, _, terms in chunks], np.int32),
            np.concatenate([terms.keys for _, _, terms in chunks]),
            np.repeat(np.arange(len(chunks), dtype=np.int32), sizes),
            np.concatenate([terms.counts for _, _, terms in chunks]),
        )

    @classmethod
    def merged(cls, parts: Sequence["Segment"]) -> Self:
        """Return one segment of what is alive in all."""
        offsets = np.cumsum([0, *(part.live for part in parts)])
        keys, slots, counts = [], [], []
        for part, offset in zip(parts, offsets, strict=False):
            kept = part.alive[part.slots]
            moved = np.cumsum(part.alive, dtype=np.int32) - 1 + np.int32(offset)
            keys.append(np.repeat(part.terms, np.diff(part.starts))[kept])
            slots.append(moved[part.slots[kept]])
            counts.append(part.counts[kept])
        return cls._sorted(
            tuple(id_ for part in parts for id_, alive in zip(part.ids, part.alive, strict=True) if alive),
            np.concatenate([part.owners[part.alive] for part in parts]),
            np.concatenate([part.lengths[part.alive] for part in parts]),
            np.concatenate(keys),
            np.concatenate(slots),
            np.concatenate(counts),
        )

    @classmethod
    def _sorted(
        cls,
        ids: tuple[str, ...],
        owners: NDArray[np.int64],
        lengths: NDArray[np.int32],
        keys: NDArray[np.uint64],
        slots: NDArray[np.int32],
        counts: NDArray[np.uint16],
    ) -> Self:
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        firsts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
        return cls(
            ids=ids,
            owners=owners,
            lengths=lengths,
            alive=np.ones(len(ids), np.bool_),
            terms=keys[firsts],
            starts=np.r_[firsts, len(keys)].astype(np.int64),
            slots=slots[order],
            counts=counts[order],
        )

    @property
    def live(self) -> int:
        """Return how many chunks are alive."""
        return int(np.count_nonzero(self.alive))

    @property
    def live_length(self) -> int:
        """Return the lengths of these, added up."""
        return int(self.lengths[self.alive].sum())

    def without(self, owners: Iterable[int]) -> Self:
        """Return the segment without the chunks of these documents; itself if it holds none."""
        gone = np.isin(self.owners, np.fromiter(owners, np.int64))
        return replace(self, alive=self.alive & ~gone) if gone.any() else self

    def postings(self, keys: NDArray[np.uint64]) -> list[tuple[NDArray[np.int32], NDArray[np.uint16]]]:
        """For each key, the slots alive that hold it, and how often."""
        places = np.searchsorted(self.terms, keys)
        found = []
        whole = bool(self.alive.all())
        for key, place in zip(keys, places, strict=True):
            if place == len(self.terms) or self.terms[place] != key:
                found.append((self.slots[:0], self.counts[:0]))
                continue
            stretch = slice(self.starts[place], self.starts[place + 1])
            slots, counts = self.slots[stretch], self.counts[stretch]
            if not whole:
                kept = self.alive[slots]
                slots, counts = slots[kept], counts[kept]
            found.append((slots, counts))
        return found
