"""A knowledge base in memory: its passages, found by their words and by their meaning, both rankings fused."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.attributes import AnyFilter, AttributeMap, matches
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.lexical import LexicalIndex, Matches, Terms, words
from headrace_workers.features.knowledge.relevance_floor import FittingFloor
from headrace_workers.features.knowledge.store.documents import FIRST, ChunkAt, KnowledgeBases, version_of
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.vectors.vector_index import Limits, VectorIndex
from headrace_workers.models.vectors.vectors import VectorRefused, read_vector, read_vectors

# Texts that say nearly the same in nearly the same words: of these the first is kept. Pure.
#
# Exact, not estimated: the Jaccard similarity of the sets of shingles (three words in a row). Only texts that share one
# of their first shingles, in whatever order, are compared, since others cannot be so alike (prefix filtering: Bayardo,
# Ma and Srikant, "Scaling up all pairs similarity search", WWW 2007). The order is that of hashes, and not of rarity,
# which would need all texts read: a search wants ten of two hundred, and reading a text is what takes time.

LEAST: Final = 0.9
_WORDS: Final = 3
_ROUNDING: Final = 1e-9  # 0.7 × 10 is a little more than 7

_Shingle = tuple[str, ...]


def distinct(texts: Sequence[str], least: float = LEAST, most: int | None = None) -> list[int]:
    """Return the places of the texts to keep: a text stays if its likeness to each earlier one is below `least` (0 to
    1).

    With `most`, stop after so many.
    """
    kept: dict[int, frozenset[_Shingle]] = {}
    holders: dict[_Shingle, list[int]] = {}
    for index, text in enumerate(texts):
        if most is not None and len(kept) >= most:
            break
        shingles = _shingles(text)
        prefix = sorted(shingles, key=hash)[: len(shingles) - math.ceil(least * len(shingles) - _ROUNDING) + 1]
        candidates = {other for shingle in prefix for other in holders.get(shingle, ())}
        if any(_likeness(shingles, kept[other]) >= least for other in candidates):
            continue
        kept[index] = shingles
        for shingle in prefix:
            holders.setdefault(shingle, []).append(index)
    return list(kept)


def _shingles(text: str) -> frozenset[_Shingle]:
    """Texts of fewer words are one shingle; a text without words is itself."""
    found = words(text)
    if not found:
        return frozenset({(text,)})
    return frozenset(tuple(found[i : i + _WORDS]) for i in range(max(1, len(found) - _WORDS + 1)))


def _likeness(one: frozenset[_Shingle], other: frozenset[_Shingle]) -> float:
    return len(one & other) / len(one | other)


@dataclass(frozen=True, slots=True)
class Leg:
    """Results of a leg: ids with their scores, best first, on a scale that all legs have in common.

    `rest` is the score of ids that it does not name: its lowest score if the results were cut off, since the others
    score at most that; else the score of an id without a match.
    """

    found: Sequence[tuple[str, float]]
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Fused:
    """One item. `ranks` says at which place each leg has it, from 1; a leg that does not have it is not named."""

    id: str
    score: float
    ranks: Mapping[str, int]


def fuse(legs: Mapping[str, Leg], weights: Mapping[str, float] | None = None) -> list[Fused]:
    """Return all items of the legs, best first; equals in order of id. The score is the mean of the legs' own.

    A leg without a weight has 1. Where a leg names an item twice, the better place counts.
    """
    weights = {leg: (weights or {}).get(leg, 1.0) for leg in legs}
    shares = {leg: weight / sum(weights.values()) for leg, weight in weights.items()}
    ranks: dict[str, dict[str, int]] = {}
    scores: dict[str, dict[str, float]] = {}
    for name, leg in legs.items():
        for rank, (id_, score) in enumerate(leg.found, start=1):
            ranks.setdefault(id_, {}).setdefault(name, rank)
            scores.setdefault(id_, {}).setdefault(name, score)
    fused = [
        Fused(id_, sum(share * scores[id_].get(name, legs[name].rest) for name, share in shares.items()), places)
        for id_, places in ranks.items()
    ]
    return sorted(fused, key=lambda item: (-item.score, item.id))


DEPTH: Final = 100  # passages of each leg that are fused, at least
WORDS: Final = "words"
VECTORS: Final = "vectors"
AT_ONCE: Final = 1_000
TOGETHER: Final = 5_000  # chunks that are indexed at once while a base is read
_LOOKS: Final = 3  # at a base that changes while it is searched
_LIMITS: Final = Limits(exact=10_000)  # more than of answers: lists find the hundredth less surely than the fifth


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found. `ranks` and `scores` come from the legs that found it: BM25, and the cosine.

    `score` is the mean of the cosine and the share of the query's words, by rarity, that the passage has. The document
    has had this `version` since `added_at` (ms).
    """

    chunk: Chunk
    score: float
    ranks: Mapping[str, int]
    scores: Mapping[str, float]
    document_id: int
    version: str
    attributes: AttributeMap = field(default_factory=dict)
    added_at: int = 0


class _Passage(NamedTuple):
    chunk: Chunk
    document_id: int
    version: str
    attributes: AttributeMap
    added_at: int
    has_vector: bool


class _Among(NamedTuple):
    """The passages to which a search is limited."""

    documents: Sequence[str]
    chunks: NDArray[np.int64]


class Passages:
    """The passages of one base. One thread at a time changes them; any number search meanwhile."""

    def __init__(self, rows: Iterable[Any], embedder: Embedder) -> None:
        """Index chunks as the ledger gives them. Chunks whose vectors another embedder made are found by words only."""
        self._embedder = embedder
        self._passages: dict[int, _Passage] = {}
        self._documents: dict[int, tuple[int, ...]] = {}  # the ids of the chunks of each
        self._attributes: dict[int, AttributeMap] = {}  # of each document
        self._lexical = LexicalIndex()
        self._vectors = VectorIndex(embedder.dimensions, _LIMITS)
        self.without_vectors = 0
        self._floor = FittingFloor()
        for documents in _by_documents(rows):
            self.update(documents)

    @classmethod
    def of(cls, ledger: Ledger, tenant: str, knowledge: str, embedder: Embedder) -> Self:
        """Read a base from the ledger; one that is not there has no passages. Unavailable with the ledger."""
        return cls(chunks_of(ledger, tenant, knowledge), embedder)

    def __len__(self) -> int:
        return len(self._passages)

    def __contains__(self, document_id: object) -> bool:
        """Return True if there are passages of this document."""
        return document_id in self._documents

    def update(self, documents: Mapping[int, Sequence[Any]]) -> None:
        """Give each document, by its id, these chunks as the ledger has them, and no others; none: it is gone.

        A document whose chunks are here already costs nothing. Many documents in one call cost less than one by one.
        """
        changed: dict[int, Sequence[Any]] = {}
        for document, rows in documents.items():
            if self._documents.get(document, ()) != tuple(row.id for row in rows):
                changed[document] = rows
            elif rows:
                self._describe(document, rows)
        if not changed:
            return
        going = [id_ for document in changed for id_ in self._documents.get(document, ())]
        coming: dict[int, _Passage] = {}
        vectors: dict[int, NDArray[np.float32]] = {}
        for rows in changed.values():
            vectors.update(self._vectors_of(rows))
            coming.update(_passages(rows, vectors))
        # A chunk is stored before either index can name it, and removed after neither can.
        self._passages.update(coming)
        for document, rows in changed.items():
            if rows:
                self._attributes[document] = coming[rows[0].id].attributes
        self._lexical.put(
            {str(document): [(str(row.id), Terms.from_bytes(row.terms) or Terms.of(coming[row.id].chunk.indexed))
                             for row in rows]
             for document, rows in changed.items()}
        )  # fmt: skip
        self._vectors.apply(list(vectors), list(vectors.values()), going)
        for document, rows in changed.items():
            self._documents[document] = tuple(row.id for row in rows)
            if not rows:
                del self._documents[document]
                self._attributes.pop(document, None)
        gone = [self._passages.pop(id_) for id_ in going if id_ not in coming]
        self.without_vectors += sum(not row.has_vector for row in coming.values())
        self.without_vectors -= sum(not row.has_vector for row in gone)

    def search(
        self, query: str, k: int, vector: NDArray[np.float32] | None = None, where: AnyFilter | None = None
    ) -> list[Hit]:
        """Return the k passages that fit the query best, best first; of near duplicates only the first.

        `where` restricts the search to documents whose attributes match. Exact up to 10,000 passages, and of any number
        with `where`: the query is compared with every one. `vector` is the query's, (dimensions,), where the embedder
        has made it already.
        """
        if vector is None:
            (vector,) = self._embedder.embed([query])
        depth = max(DEPTH, 2 * k)
        hits: list[Hit] = []
        for _ in range(_LOOKS):
            hits, whole = self._look(query, vector, depth, where)
            if whole:
                break
        return [hits[place] for place in distinct([hit.chunk.text for hit in hits], most=k)]

    def nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of each of these vectors, (n, dimensions), to the nearest passage; 0 without passages."""
        similarities, _ = self._vectors.search(vectors, 1)
        found: NDArray[np.float32] = np.where(np.isfinite(similarities[:, 0]), similarities[:, 0], 0)
        return found

    def floor(self, everyday: Callable[[], NDArray[np.float32]]) -> float:
        """Return the relevance floor that fits these passages; `everyday` gives the vectors of everyday questions."""
        return self._floor.of(len(self), lambda: self.nearest(everyday()))

    @property
    def chunks(self) -> list[Chunk]:
        """Return all passages."""
        return [passage.chunk for passage in self._passages.values()]

    def legs(self, query: str, depth: int) -> dict[str, Leg]:
        """Return what each leg finds by itself, on the scale of their fusion; `chunk` says what an id stands for."""
        (vector,) = self._embedder.embed([query])
        return self._legs(query, vector, depth)[1]

    def chunk(self, id_: str) -> Chunk:
        """Return the passage with this id of a leg."""
        return self._passages[int(id_)].chunk

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and searches go on."""
        if self._vectors.due:
            self._vectors.compact()

    def _look(
        self, query: str, vector: NDArray[np.float32], depth: int, where: AnyFilter | None
    ) -> tuple[list[Hit], bool]:
        """Return what is found, and whether that is all: a document that is replaced meanwhile may be in neither."""
        words, legs = self._legs(query, vector, depth, None if where is None else self._let_through(where))
        scores = {WORDS: dict(words.found), VECTORS: dict(legs[VECTORS].found)}
        fused = fuse(legs)
        hits = []
        for item in fused:
            passage = self._passages.get(int(item.id))
            if passage is not None and (where is None or matches(where, passage.attributes)):
                found = {leg: scores[leg][item.id] for leg in item.ranks}
                hits.append(
                    Hit(
                        passage.chunk, item.score, item.ranks, found, passage.document_id, passage.version,
                        passage.attributes, passage.added_at,
                    )
                )  # fmt: skip
        return hits, len(hits) == len(fused)

    def _let_through(self, where: AnyFilter) -> _Among:
        """Return the documents that a filter lets through, and their chunks."""
        # Documents that say the same share their attributes: each is looked at once.
        verdicts: dict[int, bool] = {}
        documents: list[int] = []
        for document, attributes in list(self._attributes.items()):
            if id(attributes) not in verdicts:
                verdicts[id(attributes)] = matches(where, attributes)
            if verdicts[id(attributes)]:
                documents.append(document)
        chunks = [id_ for document in documents for id_ in self._documents.get(document, ())]
        return _Among([str(document) for document in documents], np.array(chunks, np.int64))

    def _legs(
        self, query: str, vector: NDArray[np.float32], depth: int, among: _Among | None = None
    ) -> tuple[Matches, dict[str, Leg]]:
        """Return the matches of words with their BM25 scores, and what each leg finds."""
        documents, chunks = (None, None) if among is None else among
        words = self._lexical.look_up(query, depth, among=documents)
        (similarities,), (ids,) = self._vectors.search(vector[None], depth, chunks)
        by_meaning = [(str(id_), float(score)) for id_, score in zip(ids, similarities, strict=True) if id_ >= 0]
        found = {WORDS: words.shares, VECTORS: by_meaning}
        return words, {leg: Leg(group, _rest(group, depth)) for leg, group in found.items()}

    def _describe(self, document: int, rows: Sequence[Any]) -> None:
        """Take in a document with the same chunks, which may have other attributes."""
        first = rows[0]
        version, attributes = version_of(first.sha256, first.attributes), _attributes_of(first.attributes)
        if self._passages[first.id].version == version:
            return
        changed = {
            row.id: self._passages[row.id]._replace(version=version, attributes=attributes, added_at=first.added_at)
            for row in rows
        }
        self._passages.update(changed)
        self._attributes[document] = attributes

    def _vectors_of(self, rows: Sequence[Any]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of a document's chunks that can be compared with ours."""
        found: dict[int, NDArray[np.float32]] = {}
        refused: list[VectorRefused] = []
        ours = [row for row in rows if row.embedder == self._embedder.id]
        ids, dimensions = [row.id for row in ours], self._embedder.dimensions
        try:
            vectors = read_vectors("chunk", ids, [row.vector for row in ours], dimensions)
            return dict(zip(ids, vectors, strict=True))
        except VectorRefused:  # one of them, or more: which?
            for row in ours:
                try:
                    found[row.id] = read_vector("chunk", row.id, row.vector, dimensions)
                except VectorRefused as error:
                    refused.append(error)
        if refused:
            log(
                "recall",
                logging.WARNING,
                Action.WORDS_ONLY,
                f"{len(refused)} passages of document {rows[0].document_id} are found by words only: {refused[0]}; "
                "`headrace knowledge remove` it and add it again",
                document_id=rows[0].document_id,
            )
        return found


def _rest(found: Sequence[tuple[str, float]], depth: int) -> float:
    """Return the score of what a leg does not name: at most its lowest, if it was cut off."""
    return found[-1][1] if len(found) == depth else 0.0


def chunks_of(ledger: Ledger, tenant: str, knowledge: str, document_id: int | None = None) -> Iterator[Any]:
    """Yield all chunks of a base, or of one of its documents, as the ledger has them. Unavailable with the ledger."""
    after: ChunkAt | None = FIRST
    while after is not None:
        rows = ledger.of(KnowledgeBases).chunks(tenant, knowledge, after, AT_ONCE, document_id)
        yield from rows
        after = ChunkAt(rows[-1].document_id, rows[-1].id) if len(rows) == AT_ONCE else None


def _by_documents(rows: Iterable[Any]) -> Iterator[dict[int, list[Any]]]:
    """Yield rows in the order of documents, some documents at a time, so that memory does not hold the ledger's rows
    twice."""
    documents: dict[int, list[Any]] = {}
    held = 0
    for document_id, of_one in groupby(rows, key=lambda row: row.document_id):
        documents[document_id] = list(of_one)
        held += len(documents[document_id])
        if held >= TOGETHER:
            yield documents
            documents, held = {}, 0
    yield documents


@lru_cache(maxsize=1 << 12)
def _attributes_of(written: str) -> AttributeMap:
    """Return attributes; documents that say the same share them."""
    attributes: AttributeMap = json.loads(written)
    return attributes


def _passages(rows: Sequence[Any], vectors: Mapping[int, object]) -> dict[int, _Passage]:
    """Return the passages of a document's rows by id; texts that its chunks share are kept once."""
    if not rows:
        return {}
    kept: dict[str, str] = {}
    version, attributes = version_of(rows[0].sha256, rows[0].attributes), _attributes_of(rows[0].attributes)
    return {
        row.id: _Passage(
            Chunk(
                row.key,
                kept.setdefault(row.document, row.document),
                kept.setdefault(row.section, row.section),
                (row.start, row.stop),
                row.text,
            ),
            row.document_id,
            version,
            attributes,
            row.added_at,
            row.id in vectors,
        )
        for row in rows
    }
