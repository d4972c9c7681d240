"""Knowledge bases, their documents and passages as everybody sees them, in tables and by `--json`. Pure."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from pydantic import BaseModel

from headrace_schemas.attributes import LONGEST_VALUE, MAX_ATTRIBUTES, AttributeMap
from headrace_workers.cli.durations import Moment
from headrace_workers.cli.output import Column
from headrace_workers.cli.receipts import shorten
from headrace_workers.features.knowledge.intake import Status, Taken
from headrace_workers.features.knowledge.passages import VECTORS, WORDS, Hit


class KnowledgeBase(BaseModel):
    """A base, and how much is in it. `embedder` is null where several embedded it."""

    knowledge: str
    tenant: str
    documents: int
    chunks: int
    bytes: int
    embedder: str | None
    embedders: int
    changed_at: Moment

    @classmethod
    def of(cls, base: Any) -> Self:
        """Return the view of a base."""
        return cls(
            knowledge=base.knowledge,
            tenant=base.tenant,
            documents=int(base.documents),
            chunks=int(base.chunks),
            bytes=int(base.size),
            embedder=base.embedder if base.embedders == 1 else None,
            embedders=int(base.embedders),
            changed_at=base.changed_at,
        )


class KnowledgeDocument(BaseModel):
    """A document of a base."""

    document: str
    chunks: int
    bytes: int
    format: str
    sha256: str
    embedder: str
    attributes: AttributeMap
    added_at: Moment

    @classmethod
    def of(cls, document: Any) -> Self:
        """Return the view of a document."""
        return cls(
            document=document.name,
            chunks=document.chunks,
            bytes=document.size,
            format=document.format,
            sha256=document.sha256,
            embedder=document.embedder,
            attributes=json.loads(document.attributes),
            added_at=document.added_at,
        )


class Leg(BaseModel):
    """The place and the score of a passage in one leg of a search."""

    rank: int
    score: float

    @classmethod
    def of(cls, hit: Hit, leg: str) -> Self | None:
        """Return the leg; None if it does not have the passage."""
        return cls(rank=hit.ranks[leg], score=round(hit.scores[leg], 4)) if leg in hit.ranks else None


class FoundPassage(BaseModel):
    """A passage that was found; a leg that does not have it is null."""

    rank: int
    score: float
    words: Leg | None
    vectors: Leg | None
    chunk: str
    document: str
    section: str
    span: tuple[int, int]
    text: str
    attributes: AttributeMap

    @classmethod
    def of(cls, rank: int, hit: Hit) -> Self:
        """Return the view of a passage."""
        return cls(
            rank=rank,
            score=round(hit.score, 6),
            words=Leg.of(hit, WORDS),
            vectors=Leg.of(hit, VECTORS),
            chunk=hit.chunk.id,
            document=hit.chunk.document,
            section=hit.chunk.section,
            span=hit.chunk.span,
            text=hit.chunk.text,
            attributes=hit.attributes,
        )


class TakenDocument(BaseModel):
    """The outcome of adding a file."""

    document: str
    status: Status
    chunks: int
    reason: str | None

    @classmethod
    def of(cls, taken: Taken) -> Self:
        """Return the view of a file."""
        return cls(document=taken.document, status=taken.status, chunks=taken.chunks, reason=taken.reason)


NUMBERS = ("rank", "score", "words", "vectors", "documents", "chunks", "bytes")
_PASSAGE_WIDTH = 240  # characters of its text
_ATTRIBUTES_WIDTH = 120  # characters
_TOLD = 8  # documents that are named before something is done to them
_STATUSES: tuple[Status, ...] = ("added", "replaced", "described", "unchanged", "refused")


def _embedder(base: KnowledgeBase) -> str:
    return f"{base.embedders} embedders" if base.embedder is None else base.embedder.rpartition("/")[0]


def attributes_told(attributes: AttributeMap) -> str:
    """Return attributes as they are typed: `language=en, year=2026`."""
    return ", ".join(f"{key}={_typed(value)}" for key, value in attributes.items())


def _typed(value: bool | int | float | str) -> str:
    """Return a value as JSON writes it, and a text bare unless it could be taken for another value."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value, ensure_ascii=False)


def _passage(found: FoundPassage) -> str:
    where = f"{found.document}: {found.section}" if found.section else found.document
    return f"{where}\n{shorten(found.text, _PASSAGE_WIDTH)}"


def _leg(leg: Leg | None, digits: int) -> str:
    """Return the place of a passage in a leg, and its score there."""
    return "–" if leg is None else f"{leg.rank}. {leg.score:.{digits}f}"


BASES: Final[Mapping[str, Column]] = {
    "knowledge": "knowledge", "tenant": "tenant", "documents": "documents", "chunks": "chunks", "bytes": "bytes",
    "embedder": _embedder, "changed": "changed_at",
}  # fmt: skip
DOCUMENTS: Final[Mapping[str, Column]] = {
    "document": "document", "chunks": "chunks", "bytes": "bytes", "format": "format", "added": "added_at",
    "attributes": lambda document: shorten(attributes_told(document.attributes), _ATTRIBUTES_WIDTH),
}  # fmt: skip
HITS: Final[Mapping[str, Column]] = {
    "rank": "rank", "score": lambda found: f"{found.score:.4f}", "words": lambda found: _leg(found.words, 1),
    "vectors": lambda found: _leg(found.vectors, 2), "passage": _passage,
}  # fmt: skip


def passed_words(passed_over: Counter[str]) -> str:
    """Name the fields of front matter that are no attributes, and of how many documents."""
    names = ", ".join(f"{name} ({count:,})" for name, count in passed_over.most_common(_TOLD))
    more = f" and {len(passed_over) - _TOLD:,} more" if len(passed_over) > _TOLD else ""
    return (
        f"passed over in front matter: {names}{more}; attributes are texts up to {LONGEST_VALUE} characters, numbers, "
        f"true and false, and {MAX_ATTRIBUTES} of a document"
    )


def tally_words(tally: dict[Status, int], chunks: int) -> str:
    """Say what became of all files: `12 added (140 chunks), 3 unchanged`."""
    parts = [f"{tally[status]:,} {status}" for status in _STATUSES if tally.get(status)]
    return f"{', '.join(parts) or 'no files'}; {chunks:,} {'chunk' if chunks == 1 else 'chunks'} written"


def names_told(names: Sequence[str]) -> str:
    """Return the first of these names, and how many more there are."""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"
