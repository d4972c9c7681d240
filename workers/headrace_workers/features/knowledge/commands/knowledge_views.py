"""From bases, documents and passages to rows and to JSON. Pure."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from headrace_schemas.attributes import LONGEST_VALUE, MAX_ATTRIBUTES, AttributeMap
from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.tables import shorten
from headrace_workers.features.knowledge.intake import Status, Taken
from headrace_workers.features.knowledge.passages import VECTORS, WORDS, Hit

BASES = ("knowledge", "tenant", "documents", "chunks", "bytes", "embedder", "changed")
DOCUMENTS = ("document", "chunks", "bytes", "format", "added", "attributes")
HITS = ("rank", "score", "words", "vectors", "passage")
NUMBERS = ("rank", "score", "words", "vectors", "documents", "chunks", "bytes")
_PASSAGE_WIDTH = 240  # characters of its text
_ATTRIBUTES_WIDTH = 120  # characters
_TOLD = 8  # documents that are named before something is done to them
_STATUSES: tuple[Status, ...] = ("added", "replaced", "described", "unchanged", "refused")


def base_row(base: Any) -> tuple[str, ...]:
    """A base as the cells of `BASES`."""
    embedder = base.embedder.rpartition("/")[0] if base.embedders == 1 else f"{base.embedders} embedders"
    numbers = (base.documents, base.chunks, base.size)
    return (base.knowledge, base.tenant, *(f"{n:,}" for n in numbers), embedder, show_time(base.changed_at))


def base_dict(base: Any) -> dict[str, Any]:
    """A base for `--json`."""
    return {
        "knowledge": base.knowledge,
        "tenant": base.tenant,
        "documents": int(base.documents),
        "chunks": int(base.chunks),
        "bytes": int(base.size),
        "embedders": int(base.embedders),
        "changed_at": rfc3339(base.changed_at),
    }


def document_row(document: Any) -> tuple[str, ...]:
    """A document as the cells of `DOCUMENTS`."""
    numbers = (f"{document.chunks:,}", f"{document.size:,}")
    told = shorten(attributes_told(json.loads(document.attributes)), _ATTRIBUTES_WIDTH)
    return (document.name, *numbers, document.format, show_time(document.added_at), told)


def attributes_told(attributes: AttributeMap) -> str:
    """As they are typed: `language=en, year=2026`."""
    return ", ".join(f"{key}={_typed(value)}" for key, value in attributes.items())


def _typed(value: bool | int | float | str) -> str:
    """What is no text stands as JSON writes it, and a text that could be taken for such in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value, ensure_ascii=False)


def document_dict(document: Any) -> dict[str, Any]:
    """A document for `--json`."""
    return {
        "document": document.name,
        "chunks": document.chunks,
        "bytes": document.size,
        "format": document.format,
        "sha256": document.sha256,
        "embedder": document.embedder,
        "attributes": json.loads(document.attributes),
        "added_at": rfc3339(document.added_at),
    }


def hit_row(rank: int, hit: Hit) -> tuple[str, ...]:
    """A passage as the cells of `HITS`: of each leg its place there and its score."""
    where = f"{hit.chunk.document}: {hit.chunk.section}" if hit.chunk.section else hit.chunk.document
    text = f"{where}\n{shorten(hit.chunk.text, _PASSAGE_WIDTH)}"
    return (str(rank), f"{hit.score:.4f}", _leg(hit, WORDS, 1), _leg(hit, VECTORS, 2), text)


def _leg(hit: Hit, leg: str, digits: int) -> str:
    return f"{hit.ranks[leg]}. {hit.scores[leg]:.{digits}f}" if leg in hit.ranks else "–"


def hit_dict(rank: int, hit: Hit) -> dict[str, Any]:
    """A passage for `--json`; a leg that does not have it is null."""
    chunk = hit.chunk
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        **{
            leg: {"rank": hit.ranks[leg], "score": round(hit.scores[leg], 4)} if leg in hit.ranks else None
            for leg in (WORDS, VECTORS)
        },
        "chunk": chunk.id,
        "document": chunk.document,
        "section": chunk.section,
        "span": list(chunk.span),
        "text": chunk.text,
        "attributes": dict(hit.attributes),
    }


def taken_dict(taken: Taken) -> dict[str, Any]:
    """What became of a file, for `--json`."""
    return {
        "document": taken.document,
        "status": taken.status,
        "chunks": taken.chunks,
        "reason": taken.reason,
    }


def passed_words(passed_over: Counter[str]) -> str:
    """Which fields of front matter are no attributes, and of how many documents."""
    told = ", ".join(f"{name} ({count:,})" for name, count in passed_over.most_common(_TOLD))
    more = f" and {len(passed_over) - _TOLD:,} more" if len(passed_over) > _TOLD else ""
    return (
        f"passed over in front matter: {told}{more}; attributes are texts up to {LONGEST_VALUE} characters, numbers, "
        f"true and false, and {MAX_ATTRIBUTES} of a document"
    )


def tally_words(tally: dict[Status, int], chunks: int) -> str:
    """What became of all files: `12 added (140 chunks), 3 unchanged`."""
    parts = [f"{tally[status]:,} {status}" for status in _STATUSES if tally.get(status)]
    return f"{', '.join(parts) or 'no files'}; {chunks:,} {'chunk' if chunks == 1 else 'chunks'} written"


def names_told(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"
