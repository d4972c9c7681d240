"""From files to what a knowledge base holds: read, cut, embedded and written, a document at a time."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from headrace_schemas.attributes import MAX_ATTRIBUTES, AttributeMap
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Embedder
from headrace_workers.features.knowledge import front_matter
from headrace_workers.features.knowledge.chunking import SIZE, CountTokens, chunk
from headrace_workers.features.knowledge.documents import Document, DocumentRefused
from headrace_workers.features.knowledge.front_matter import FrontMatter
from headrace_workers.features.knowledge.reading import MARKDOWN, Loaded, Reader, load
from headrace_workers.features.knowledge.store.bases import KnowledgeBases
from headrace_workers.features.knowledge.store.documents import NewChunk, NewDocument, written
from headrace_workers.features.knowledge.terms import Terms
from headrace_workers.features.knowledge.walking import Found

LONGEST_NAME: Final = 2_000  # bytes of UTF-8: what PostgreSQL's indexes take
_AT_ONCE: Final = 1_000

Status = Literal["added", "replaced", "described", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of adding a file. `chunks` were written; `reason` says why it was refused.

    `described`: it is the same file, and has other attributes. `passed_over` are fields of its front matter that can be
    no attributes, `trouble` says why that could not be read.
    """

    document: str
    status: Status
    chunks: int = 0
    reason: str | None = None
    passed_over: tuple[str, ...] = ()
    trouble: str | None = None


class _Known(NamedTuple):
    """A document of the base, and what it was made from: the file's hash, and the embedder."""

    id: int
    came_from: tuple[str, str]
    attributes: str


def _known_by(document_id: int, sha256: str, embedder: str, attributes: str) -> _Known:
    """State of a document. A base may have very many documents, so most of them share one text."""
    return _Known(document_id, (sha256, sys.intern(embedder)), sys.intern(attributes))


@dataclass(frozen=True, slots=True)
class Intake:
    """Puts files into a tenant's knowledge base. Not thread-safe; several processes may add to one base at once.

    Each document gets these `attributes`, and a Markdown document also further ones from its front matter, up to the
    limit.
    """

    ledger: Ledger
    reader: Reader
    embedder: Embedder
    count_tokens: CountTokens
    tenant: str
    knowledge: str
    attributes: AttributeMap = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict, init=False)  # texts: a path takes ten times their memory

    def take(self, files: Iterable[Found]) -> Iterator[Taken]:
        """Put each file into the base and report its outcome; a refused file stops no other.

        A file that the base has already, by its hash and the embedder's id, is neither converted nor embedded: if its
        attributes have changed, only they are written. Each document is written in a transaction of its own: an
        interrupted run goes on from there when it starts again. Unavailable with the ledger.
        """
        known = self._known()
        for file in files:
            try:
                self._refuse_twins(file)
                loaded = load(file.path, file.name)
                found = front_matter.read(loaded.data) if loaded.suffix in MARKDOWN else front_matter.NONE
                attributes, passed_over = self._attributes(found)
                taken = self._taken(known, loaded, attributes)
            except DocumentRefused as refused:
                yield Taken(file.name, "refused", reason=str(refused))
                continue
            yield replace(taken, passed_over=passed_over, trouble=found.trouble)

    def _taken(self, known: dict[str, _Known], loaded: Loaded, attributes: AttributeMap) -> Taken:
        """Return what became of a file that was read. Raise DocumentRefused."""
        name = loaded.name
        came_from, now, before = (loaded.sha256, self.embedder.id), written(attributes), known.get(loaded.name)
        if before is not None and before.came_from == came_from:
            if before.attributes == now:
                return Taken(name, "unchanged")
            changed = self.ledger.of(KnowledgeBases).describe(before.id, loaded.sha256, attributes)
            known[name] = before._replace(attributes=now)
            return Taken(name, "described" if changed else "unchanged")
        document = new_document(
            self.reader.read(loaded),
            len(loaded.data),
            attributes,
            tenant=self.tenant,
            knowledge=self.knowledge,
            embedder=self.embedder,
            count_tokens=self.count_tokens,
        )
        document_id = self.ledger.of(KnowledgeBases).put(document)
        if document_id is None:
            return Taken(name, "unchanged")  # another process added it first
        known[name] = _known_by(document_id, *came_from, now)
        return Taken(name, "added" if before is None else "replaced", len(document.chunks))

    def _attributes(self, found: FrontMatter) -> tuple[AttributeMap, tuple[str, ...]]:
        """Return a document's attributes, and which fields of its front matter found no place among them."""
        more = [key for key in found.attributes if key not in self.attributes]
        room = MAX_ATTRIBUTES - len(self.attributes)
        attributes = {**self.attributes, **{key: found.attributes[key] for key in more[:room]}}
        return attributes, (*found.passed_over, *more[room:])

    def _known(self) -> dict[str, _Known]:
        """Return the documents of the base, by name."""
        known: dict[str, _Known] = {}
        after = ""
        while rows := self.ledger.of(KnowledgeBases).documents(self.tenant, self.knowledge, after, _AT_ONCE):
            known.update((row.name, _known_by(row.id, row.sha256, row.embedder, row.attributes)) for row in rows)
            after = rows[-1].name
        return known

    def _refuse_twins(self, file: Found) -> None:
        """Two files of one name would replace each other at each call."""
        if len(file.name.encode()) > LONGEST_NAME:
            raise DocumentRefused(
                f"{file.name[:80]}…: its name has more than {LONGEST_NAME:,} bytes: add a folder within"
            )
        path = os.path.realpath(file.path)
        first = self._sources.setdefault(file.name, path)
        if first != path:
            raise DocumentRefused(
                f"{file.path}: {first} is called {file.name!r}, too: rename one, or add the folder above both"
            )


def new_document(
    document: Document,
    size: int,
    attributes: AttributeMap,
    *,
    tenant: str,
    knowledge: str,
    embedder: Embedder,
    count_tokens: CountTokens,
) -> NewDocument:
    """Return a document cut and embedded, to be written into a base; `size` is that of its file, in bytes."""
    chunks = chunk(document, count_tokens, min(SIZE, embedder.max_tokens))
    vectors = embedder.embed([each.indexed for each in chunks])
    return NewDocument(
        tenant=tenant,
        knowledge=knowledge,
        name=document.name,
        sha256=document.sha256,
        format=document.format.value,
        size=size,
        embedder=embedder.id,
        attributes=attributes,
        chunks=[
            NewChunk(each.id, each.section, *each.span, each.text, vector.tobytes(), Terms.of(each.indexed).to_bytes())
            for each, vector in zip(chunks, vectors, strict=True)
        ],
    )
