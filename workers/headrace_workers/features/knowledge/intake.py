"""From files to what a knowledge base holds: read, cut, embedded and written, by a command or by a recall worker."""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Final, Literal, NamedTuple

from headrace_schemas.attributes import MAX_ATTRIBUTES, AttributeMap
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Awaited, Loop
from headrace_workers.features.knowledge import chunking
from headrace_workers.features.knowledge.chunking import SIZE, CountTokens, FrontMatter, chunk
from headrace_workers.features.knowledge.documents import Document, DocumentRefused
from headrace_workers.features.knowledge.lexical import Terms
from headrace_workers.features.knowledge.reading import MARKDOWN, SIZE_LIMIT, FoundFiles, Loaded, Reader, load
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewChunk, NewDocument, written
from headrace_workers.features.knowledge.store.store_files import document_name
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.models.embedders.embedder import CountingEmbedder, Embedder

LONGEST_NAME: Final = 2_000  # bytes of UTF-8: what PostgreSQL's indexes take
_CHUNKS_AT_ONCE: Final = 1_000

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

    def take(self, files: Iterable[FoundFiles]) -> Iterator[Taken]:
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
                front_matter = (
                    chunking.read_front_matter(loaded.data) if loaded.suffix in MARKDOWN else chunking.NO_FRONT_MATTER
                )
                attributes, passed_over = self._attributes(front_matter)
                taken = self._taken(known, loaded, attributes)
            except DocumentRefused as refused:
                yield Taken(file.name, "refused", reason=str(refused))
                continue
            yield replace(taken, passed_over=passed_over, trouble=front_matter.trouble)

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
        while rows := self.ledger.of(KnowledgeBases).documents(self.tenant, self.knowledge, after, _CHUNKS_AT_ONCE):
            known.update((row.name, _known_by(row.id, row.sha256, row.embedder, row.attributes)) for row in rows)
            after = rows[-1].name
        return known

    def _refuse_twins(self, file: FoundFiles) -> None:
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
    vectors = embedder.embed([item.indexed for item in chunks])
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
            NewChunk(item.id, item.section, *item.span, item.text, vector.tobytes(), Terms.of(item.indexed).to_bytes())
            for item, vector in zip(chunks, vectors, strict=True)
        ],
    )


_PAUSE: Final = 1.0  # s between two looks where there is nothing to do
_LEASE_MS: Final = 1_800_000  # for one file: converting takes 300 s at most, and embedding 50 MB some minutes
_EXPIRE_EVERY: Final = 60.0  # s
_MOST_TENANTS: Final = 1_000  # whose turns are compared at a time
_EXPIRED_AT_ONCE: Final = 100  # documents of stores that nobody used for long

# The bytes of a file, so many at most; None where there is no such file any more. Unavailable with the file store.
ReadFile = Callable[[str, int], bytes | None]


class CannotRead(Unavailable):
    """A file cannot be read for now: there is no embedder, or the file store is away."""


class TenantTurns:
    """Turns between tenants: the next file is from the tenant whose files took the least time so far.

    A tenant that was away starts level with the waiting tenant that has had the least, so that it gets no credit for
    the time before.
    """

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}  # seconds
        self._latest = ""  # tenant

    def order(self, tenants: Sequence[str]) -> list[str]:
        """Return the waiting tenants in the order of their turns."""
        level = min((self._spent[tenant] for tenant in tenants if tenant in self._spent), default=0.0)
        for tenant in tenants:
            self._spent[tenant] = max(level, self._spent.get(tenant, level))
        return sorted(tenants, key=lambda tenant: (self._spent[tenant], tenant == self._latest))

    def charge(self, tenant: str, seconds: float) -> None:
        """Count time that a file of this tenant took. The tenants that spent least are forgotten past the bound."""
        self._latest = tenant
        self._spent[tenant] = self._spent.get(tenant, 0.0) + seconds
        if len(self._spent) > 2 * _MOST_TENANTS:
            most = sorted(self._spent.items(), key=lambda item: -item[1])[:_MOST_TENANTS]
            self._spent = dict(most)


@dataclass(frozen=True, slots=True)
class Filling:
    """Reads what is on its way into knowledge bases. Several may: each file is read by one of them."""

    ledger: Ledger
    read_file: ReadFile
    reader: Reader
    embedder: Callable[[], CountingEmbedder]
    monotonic: Callable[[], float] = time.monotonic
    turns: TenantTurns = field(default_factory=TenantTurns)

    def once(self) -> bool:
        """Read one file, of the tenant whose turn it is; return True if there was one.

        Raises Unavailable with the ledger, CannotRead without an embedder or a file store.
        """
        for tenant in self.turns.order(self.ledger.of(VectorStores).waiting_tenants(_MOST_TENANTS)):
            row = self.ledger.of(VectorStores).take(tenant, _LEASE_MS)
            if row is not None:  # else another worker took the tenant's last one
                began = self.monotonic()
                try:
                    return self._read(row)
                finally:
                    self.turns.charge(tenant, self.monotonic() - began)
        return False

    def _read(self, row: Any) -> bool:
        try:
            document = self._document(row, self.embedder())
        except DocumentRefused as refused:
            self.ledger.of(VectorStores).fail(row.id, row.tries, "unsupported_file", str(refused))
            return True
        except (Unavailable, UnknownModel, ConfigurationError) as error:  # no file store, no embedder: for now
            self.ledger.of(VectorStores).give_back(row.id, row.tries)
            raise CannotRead(str(error)) from error
        if document is None:
            self.ledger.of(VectorStores).fail(
                row.id, row.tries, "invalid_file", f"there is no file {row.file_id} any more"
            )
        else:
            self.ledger.of(VectorStores).arrived(row.id, row.tries, document)
        return True

    def _document(self, row: Any, embedder: CountingEmbedder) -> NewDocument | None:
        data = self.read_file(row.file_id, SIZE_LIMIT + 1)
        if data is None:
            return None
        if len(data) > SIZE_LIMIT:
            raise DocumentRefused(f"{row.name}: it has more than {SIZE_LIMIT:,} bytes: part it")
        if not data:
            raise DocumentRefused(f"{row.name}: it is empty")
        name = document_name(row.file_id, row.name)
        loaded = Loaded(name, PurePath(row.name).suffix.lower(), data, hashlib.sha256(data).hexdigest())
        return new_document(
            self.reader.read(loaded),
            len(data),
            json.loads(row.attributes),
            tenant=row.tenant,
            knowledge=row.knowledge,
            embedder=embedder,
            count_tokens=embedder.count_tokens,
        )


class Fills(KeepsGoing):
    """Keeps filling, from a thread of its own."""

    def __init__(self, filling: Filling, loop: Loop) -> None:
        super().__init__(loop)
        self._filling = filling
        self._expired_at = -_EXPIRE_EVERY
        self._lacks: Awaited | None = None

    def _look(self) -> Awaited | None:
        with self._progress.excused():  # a file may take minutes
            try:
                busy = self._filling.once()
            except CannotRead as error:
                self._lacks = Awaited("what fills vector stores", str(error))
                self._stop.wait(_PAUSE)
                return self._lacks
        # A file that could not be read is tried again later. Until then there is none to read, which is no sign that
        # what it lacked is back.
        if self._lacks and (busy or not self._filling.ledger.of(VectorStores).are_open()):
            self._lacks = None
        if not self._expire() and not busy:
            self._stop.wait(_PAUSE)
        return self._lacks

    def _expire(self) -> int:
        """Remove documents of stores that nobody used for long; how many, and 0 where it is not time to look."""
        if time.monotonic() - self._expired_at < _EXPIRE_EVERY:
            return 0
        expired = self._filling.ledger.of(VectorStores).expire(_EXPIRED_AT_ONCE)
        if expired:
            log("recall", logging.INFO, Action.BASE_LET_GO, "documents of a vector store that expired were removed",
                documents=expired)  # fmt: skip
        else:
            self._expired_at = time.monotonic()
        return expired
