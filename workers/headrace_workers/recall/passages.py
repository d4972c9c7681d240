"""A knowledge base in memory: its passages, found by their words and by their meaning, both rankings fused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np

from headrace_workers.index.vector_index import VectorIndex
from headrace_workers.knowledge.alike import distinct
from headrace_workers.knowledge.chunking import Chunk
from headrace_workers.knowledge.fusion import Leg, fuse
from headrace_workers.knowledge.lexical import LexicalIndex, Matches
from headrace_workers.ledger.documents import FIRST, ChunkAt
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ports import Embedder

DEPTH: Final = 100  # passages of each leg that are fused, at least
WORDS: Final = "words"
VECTORS: Final = "vectors"
_AT_ONCE: Final = 1_000
_FLOAT: Final = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found. `ranks` and `scores` are those of the legs that have it: BM25, and the cosine.

    `score` is the mean of the cosine and the share of the query's words, by their rarity, that the passage has.
    """

    chunk: Chunk
    score: float
    ranks: Mapping[str, int]
    scores: Mapping[str, float]


class _Legs(NamedTuple):
    """What each leg found for a query, down to a depth."""

    depth: int
    words: Matches
    vectors: Sequence[tuple[str, float]]


class Passages:
    """The passages of one base, as they were when it was read. Searches may run side by side."""

    def __init__(self, rows: Iterable[Any], embedder: Embedder) -> None:
        """Index chunks as `Ledger.chunks` gives them. Those whose vectors another embedder made have none here."""
        self._embedder = embedder
        self._chunks: dict[int, Chunk] = {}
        self._lexical, self._vectors = LexicalIndex(), VectorIndex(embedder.dimensions)
        documents: dict[str, list[tuple[str, str]]] = {}
        ids, vectors = [], []
        for row in rows:
            passage = Chunk(row.key, row.document, row.section, (row.start, row.stop), row.text)
            self._chunks[row.id] = passage
            documents.setdefault(str(row.document_id), []).append((str(row.id), passage.indexed))
            if row.embedder == embedder.id:
                ids.append(row.id)
                vectors.append(np.frombuffer(row.vector, _FLOAT))
        self.without_vectors = len(self._chunks) - len(ids)
        self._lexical.update(documents)
        if ids:
            self._vectors.put(ids, np.stack(vectors))

    @classmethod
    def of(cls, ledger: Ledger, tenant: str, knowledge: str, embedder: Embedder) -> Self:
        """Read a base from the ledger; one that is not there has no passages. Unavailable with the ledger."""
        return cls(_chunks(ledger, tenant, knowledge), embedder)

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def chunks(self) -> list[Chunk]:
        """All passages."""
        return list(self._chunks.values())

    def search(self, query: str, k: int) -> list[Hit]:
        """The k passages that fit the query best, best first; of those that say nearly the same, the first.

        Exact: the query is compared with every passage.
        """
        legs = self._legs(query, max(DEPTH, 2 * k))
        scores = {WORDS: dict(legs.words.found), VECTORS: dict(legs.vectors)}
        fused = fuse(
            {
                WORDS: Leg(legs.words.shares, _rest(legs.words.shares, legs.depth)),
                VECTORS: Leg(legs.vectors, _rest(legs.vectors, legs.depth)),
            }
        )
        hits = [
            Hit(
                self._chunks[int(item.id)],
                item.score,
                item.ranks,
                {leg: scores[leg][item.id] for leg in item.ranks},
            )
            for item in fused
        ]
        return [hits[place] for place in distinct([hit.chunk.text for hit in hits])[:k]]

    def legs(self, query: str, depth: int) -> dict[str, list[Chunk]]:
        """What each leg finds by itself, best first."""
        legs = self._legs(query, depth)
        return {
            leg: [self._chunks[int(id_)] for id_, _ in found]
            for leg, found in ((WORDS, legs.words.found), (VECTORS, legs.vectors))
        }

    def _legs(self, query: str, depth: int) -> _Legs:
        (similarities,), (ids,) = self._vectors.search(self._embedder.embed([query]), depth)
        by_meaning = [(str(id_), float(score)) for id_, score in zip(ids, similarities, strict=True) if id_ >= 0]
        return _Legs(depth, self._lexical.look_up(query, depth), by_meaning)


def _rest(found: Sequence[tuple[str, float]], depth: int) -> float:
    """The score of what a leg does not name: at most its lowest, where it was cut off."""
    return found[-1][1] if len(found) == depth else 0.0


def _chunks(ledger: Ledger, tenant: str, knowledge: str) -> Iterator[Any]:
    after = FIRST
    while rows := ledger.knowledge.chunks(tenant, knowledge, after, _AT_ONCE):
        yield from rows
        after = ChunkAt(rows[-1].document_id, rows[-1].id)
