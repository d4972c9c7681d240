"""BM25 over chunks, with documents that come, change and go: segments that never change, merged when of like size, so
that a search sees a change whole or not at all. Robertson and Zaragoza (2009), with the idf of Lucene.
"""

import math
import re
import struct
import threading
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_LONGEST: Final = 64  # characters of a term; what is longer (base64, …) is known by its beginning

# Written without spaces between words: Thai, Lao, Burmese, Khmer; kana, Chinese characters, Hangul.
_SIGNS: Final = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED: Final = _SIGNS + r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
# `\w` does not match vowel signs. Vowel signs of the Indic scripts belong to their words too, but dandas end sentences.
_LETTER: Final = rf"[\w\u0900-\u0963\u0966-\u0df3{_SIGNS}]"
_NAME: Final = re.compile(rf"{_LETTER}+(?:\.{_LETTER}+)*(?:\+\+|\#)?")
_RUN: Final = re.compile(rf"([{_UNSPACED}]+)|[^{_UNSPACED}]+")
_ACCENTS: Final = re.compile(r"[\u0300-\u036f]+")
# Parts of a name: `HTTPServer` is HTTP and Server.
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+")


def term_counts(text: str) -> Counter[str]:
    """Return each term of the text, and how often it is there."""
    counts: Counter[str] = Counter()
    for name, times in Counter(_NAME.findall(_plain(text))).items():
        for term in (_terms_remembered if len(name) <= _LONGEST else _terms)(name):
            counts[term] += times
    return counts


def words(text: str) -> list[str]:
    """Return the words in order, whatever their case; one character is a word in scripts without spaces."""
    found: list[str] = []
    for name in _NAME.findall(_plain(text)):
        for run in _RUN.finditer(name.casefold()):
            found += run[0] if run[1] else [run[0]]
    return found


def _plain(text: str) -> str:
    """Compatible forms made one (full width, ligatures), and no accents."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))


def _terms(name: str) -> tuple[str, ...]:
    """Return a name and its parts, each once."""
    found: dict[str, None] = {}
    for run in _RUN.finditer(name):
        if run[1]:
            found |= dict.fromkeys(run[1]) | {a + b: None for a, b in pairwise(run[1])}
            continue
        found[_term(run[0])] = None
        for part in run[0].rstrip("+#").split("."):
            found[_term(part)] = None
            found |= {_term(inner): None for inner in _PART.findall(part) if len(inner) > 1}
    found.pop("", None)
    return tuple(found)


_terms_remembered: Final = lru_cache(maxsize=1 << 16)(_terms)


def _term(name: str) -> str:
    return name.casefold()[:_LONGEST]


VERSION: Final = 1  # of how a text becomes terms: with another, the terms in the ledger are counted again
_MOST_OF_ONE_TERM: Final = 0xFFFF  # the most occurrences of a term in a passage that are stored
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
            np.fromiter((min(times, _MOST_OF_ONE_TERM) for times in counted.values()), np.uint16, size),
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
