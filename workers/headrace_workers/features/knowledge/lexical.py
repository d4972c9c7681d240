"""BM25 over chunks, with documents that come, change and go.

The index is a handful of segments that never change (`index_segment.py`), each at least twice as large as the next. A
change makes a new segment of what came, marks what went, and puts a new tuple of segments in the old one's place: a
search goes on with the tuple that it took, so it sees a change whole or not at all, and waits for none. Neighbours of
like size are merged, so that a chunk is written again a logarithmic number of times. bm25s, which computes each score
beforehand, would have to build all anew for each change.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the idf of Lucene, which
is never negative. Ranks are the same whatever the order in which documents came.
"""

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.knowledge.index_segment import Segment
from headrace_workers.features.knowledge.terms import Terms, key_of
from headrace_workers.features.knowledge.words import term_counts

K1: Final = 1.2
B: Final = 0.75
MOST_TERMS: Final = 256  # of a query; of a longer one the rarest are looked for


@dataclass(frozen=True, slots=True)
class Matches:
    """The best chunks and their BM25 scores, best first; and the score that none can exceed, whatever it says.

    A score's share of `most` says how much of the query a chunk has: all of it, again and again, comes near to 1.
    """

    found: Sequence[tuple[str, float]]
    most: float

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Return the same with each score as a share of the most, from 0 to 1."""
        return [(id_, score / self.most) for id_, score in self.found]


class LexicalIndex:
    """Finds chunks by their words. Searches run beside each other and beside a change; changes exclude each other."""

    def __init__(self) -> None:
        self._changing = threading.Lock()  # held while a change is made
        self._swapping = threading.Lock()  # held for the moment in which it takes the old one's place
        self._segments: tuple[Segment, ...] = ()
        self._owners: dict[str, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return sum(segment.live for segment in self._segments)

    def update(self, changes: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Give each document these chunks (id, text to be found by), and no others; none: it is gone.

        Many documents in one call cost less than one by one.
        """
        self.put({document: [(id_, Terms.of(text)) for id_, text in chunks] for document, chunks in changes.items()})

    def put(self, counted: Mapping[str, Sequence[tuple[str, Terms]]]) -> None:
        """Do the same with chunks whose terms are counted already."""
        with self._changing:
            gone = [self._owners[document] for document in counted if document in self._owners]
            owners: dict[str, int] = {}
            new: list[tuple[str, int, Terms]] = []
            for document, chunks in counted.items():
                if chunks:
                    owners[document] = self._next
                    new += [(id_, self._next, terms) for id_, terms in chunks]
                    self._next += 1
            segments = [segment.without(gone) for segment in self._segments] if gone else list(self._segments)
            merged = _merged(segments + ([Segment.of(new)] if new else []))
            with self._swapping:
                for document in counted:
                    self._owners.pop(document, None)
                self._owners |= owners
                self._segments = merged

    def replace(self, document: str, chunks: Iterable[tuple[str, str]]) -> None:
        """Give the document these chunks (id, text to be found by), and no others."""
        self.update({document: list(chunks)})

    def remove(self, document: str) -> None:
        """Remove the document; do nothing if it was not there."""
        self.update({document: []})

    def search(self, query: str, k: int, *, among: Collection[str] | None = None) -> list[tuple[str, float]]:
        """Return the best `k` chunks with a word of the query and their scores, best first; equals in order of id.

        `among` restricts the search to these documents; the rarity of a word still counts all documents.
        """
        return list(self.look_up(query, k, among=among).found)

    def look_up(self, query: str, k: int, *, among: Collection[str] | None = None) -> Matches:
        """Return the same, with the score of a chunk that would hold nothing but the query's words, and them often.

        Words that no chunk has count there, too.
        """
        with self._swapping:
            segments = self._segments
            owners = None if among is None else [self._owners[name] for name in among if name in self._owners]
        total = sum(segment.live for segment in segments)
        if k < 1 or not total:
            return Matches([], 0.0)
        average = max(1.0, sum(segment.live_length for segment in segments) / total)
        keys, times, unheld = _query_terms(query, segments)
        postings = [segment.postings(keys) for segment in segments]
        rarity = [times[i] * _idf(total, sum(len(found[i][0]) for found in postings)) for i in range(len(keys))]
        ranked: list[tuple[float, str]] = []
        for segment, found in zip(segments, postings, strict=True):
            scores = _scores(segment, found, rarity, average)
            if owners is not None:
                scores[~np.isin(segment.owners, np.array(owners, np.int64))] = 0.0
            ranked += [(-float(scores[slot]), segment.ids[slot]) for slot in _best(scores, k)]
        most = (K1 + 1.0) * (sum(rarity) + unheld * _idf(total, 0))
        return Matches([(id_, -score) for score, id_ in sorted(ranked)[:k]], most)


def _query_terms(query: str, segments: Sequence[Segment]) -> tuple[NDArray[np.uint64], list[int], int]:
    """Return the keys of the query's terms that some chunk holds, how often each is asked for, and how many others."""
    counts: dict[int, int] = {}
    for term, times in term_counts(query).items():
        counts[key_of(term)] = counts.get(key_of(term), 0) + times
    keys = np.fromiter(sorted(counts), np.uint64, len(counts))
    held = np.zeros(len(keys), np.int64)
    for segment in segments:
        if not len(segment.terms):
            continue
        places = np.minimum(np.searchsorted(segment.terms, keys), len(segment.terms) - 1)
        held += np.where(segment.terms[places] == keys, np.diff(segment.starts)[places], 0)
    unheld = sum(counts[int(key)] for key in keys[held == 0])
    keys, held = keys[held > 0], held[held > 0]
    if len(keys) > MOST_TERMS:
        keys = np.sort(keys[np.argsort(held, kind="stable")[:MOST_TERMS]])
    return keys, [counts[int(key)] for key in keys], unheld


def _idf(total: int, holding: int) -> float:
    return math.log(1.0 + (total - holding + 0.5) / (holding + 0.5))


def _scores(
    segment: Segment,
    found: Sequence[tuple[NDArray[np.int32], NDArray[np.uint16]]],
    rarity: Sequence[float],
    average: float,
) -> NDArray[np.float64]:
    scores = np.zeros(len(segment.ids), np.float64)
    for (slots, counts), weight in zip(found, rarity, strict=True):
        if len(slots):
            damped = K1 * (1.0 - B + B * segment.lengths[slots] / average)
            scores[slots] += weight * (K1 + 1.0) * counts / (counts + damped)
    return scores


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return the slots of the best k, and of those as good as the k-th."""
    hits = np.flatnonzero(scores > 0.0)
    if len(hits) <= k:
        return hits
    least = np.partition(scores[hits], len(hits) - k)[len(hits) - k]
    best: NDArray[np.intp] = hits[scores[hits] >= least]
    return best


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    """Segments of falling size, none more than half dead."""
    kept: list[Segment] = []
    for segment in segments:
        live = segment.live
        if not live:
            continue
        kept.append(segment if 2 * live >= len(segment.ids) else Segment.merged([segment]))
        while len(kept) > 1 and kept[-2].live < 2 * kept[-1].live:
            kept[-2:] = [Segment.merged(kept[-2:])]
    return tuple(kept)
