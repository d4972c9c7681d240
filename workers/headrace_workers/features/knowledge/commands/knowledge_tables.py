"""Bases, documents and passages as rows of tables, columns of their views, and words about them. Pure."""

import json
from collections import Counter
from collections.abc import Sequence

from headrace_schemas.attributes import LONGEST_VALUE, MAX_ATTRIBUTES, AttributeMap
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.tables import shorten
from headrace_workers.features.knowledge.intake import Status
from headrace_workers.features.knowledge.views import FoundPassage, KnowledgeBase, KnowledgeDocument, Leg

BASES = ("knowledge", "tenant", "documents", "chunks", "bytes", "embedder", "changed")
DOCUMENTS = ("document", "chunks", "bytes", "format", "added", "attributes")
HITS = ("rank", "score", "words", "vectors", "passage")
NUMBERS = ("rank", "score", "words", "vectors", "documents", "chunks", "bytes")
_PASSAGE_WIDTH = 240  # characters of its text
_ATTRIBUTES_WIDTH = 120  # characters
_TOLD = 8  # documents that are named before something is done to them
_STATUSES: tuple[Status, ...] = ("added", "replaced", "described", "unchanged", "refused")


def base_row(base: KnowledgeBase) -> tuple[str, ...]:
    """Return the cells of `BASES`."""
    embedder = f"{base.embedders} embedders" if base.embedder is None else base.embedder.rpartition("/")[0]
    numbers = (base.documents, base.chunks, base.bytes)
    return (base.knowledge, base.tenant, *(f"{n:,}" for n in numbers), embedder, show_time(base.changed_at))


def document_row(document: KnowledgeDocument) -> tuple[str, ...]:
    """Return the cells of `DOCUMENTS`."""
    numbers = (f"{document.chunks:,}", f"{document.bytes:,}")
    attributes = shorten(attributes_told(document.attributes), _ATTRIBUTES_WIDTH)
    return (document.document, *numbers, document.format, show_time(document.added_at), attributes)


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


def passage_row(found: FoundPassage) -> tuple[str, ...]:
    """Return the cells of `HITS`: of each leg its place there and its score."""
    where = f"{found.document}: {found.section}" if found.section else found.document
    text = f"{where}\n{shorten(found.text, _PASSAGE_WIDTH)}"
    return (str(found.rank), f"{found.score:.4f}", _leg(found.words, 1), _leg(found.vectors, 2), text)


def _leg(leg: Leg | None, digits: int) -> str:
    return "–" if leg is None else f"{leg.rank}. {leg.score:.{digits}f}"


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
