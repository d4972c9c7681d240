"""Knowledge bases, their documents and passages as everybody sees them, by `--json` and in tables. Pure."""

import json
from typing import Any, Self

from pydantic import BaseModel

from headrace_schemas.attributes import AttributeMap
from headrace_workers.cli.durations import Moment
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
