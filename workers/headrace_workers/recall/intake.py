"""From files to what a knowledge base holds: read, cut, embedded and written, a document at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from headrace_workers.knowledge.chunking import SIZE, CountTokens, chunk
from headrace_workers.knowledge.documents import Document, DocumentRefused
from headrace_workers.knowledge.reading import Reader, load
from headrace_workers.knowledge.walking import Found
from headrace_workers.ledger.documents import NewChunk, NewDocument
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ports import Embedder

LONGEST_NAME: Final = 2_000  # bytes of UTF-8: what PostgreSQL's indexes take
_AT_ONCE: Final = 1_000

Status = Literal["added", "replaced", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a file. `chunks` were written; `reason` says why it was refused."""

    document: str
    status: Status
    chunks: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """Puts files into a tenant's knowledge base. Not thread-safe; several processes may add to one base at once."""

    ledger: Ledger
    reader: Reader
    embedder: Embedder
    count_tokens: CountTokens
    tenant: str
    knowledge: str
    _sources: dict[str, Path] = field(default_factory=dict, init=False)

    def take(self, files: Iterable[Found]) -> Iterator[Taken]:
        """Put each file into the base and say what became of it; what is refused stops no other.

        A file that the base has already, by its hash and the embedder's id, is neither converted nor embedded. Each
        document is written in a transaction of its own: whoever is interrupted and begins again goes on from there.
        Unavailable with the ledger.
        """
        known = self._known()
        for file in files:
            try:
                self._refuse_twins(file)
                loaded = load(file.path, file.name)
                came_from = loaded.sha256, self.embedder.id
                if known.get(file.name) == came_from:
                    yield Taken(file.name, "unchanged")
                    continue
                document = self._embedded(self.reader.read(loaded), len(loaded.data))
            except DocumentRefused as refused:
                yield Taken(file.name, "refused", reason=str(refused))
                continue
            if self.ledger.knowledge.put(document) is None:
                yield Taken(file.name, "unchanged")  # whoever adds it beside us was faster
            else:
                yield Taken(file.name, "replaced" if file.name in known else "added", len(document.chunks))
            known[file.name] = came_from

    def _known(self) -> dict[str, tuple[str, str]]:
        """What each document of the base was made from: the file's hash, and the embedder."""
        known: dict[str, tuple[str, str]] = {}
        after = ""
        while rows := self.ledger.knowledge.documents(self.tenant, self.knowledge, after, _AT_ONCE):
            known.update((row.name, (row.sha256, row.embedder)) for row in rows)
            after = rows[-1].name
        return known

    def _refuse_twins(self, file: Found) -> None:
        """Two files of one name would replace each other at each call."""
        if len(file.name.encode()) > LONGEST_NAME:
            raise DocumentRefused(
                f"{file.name[:80]}…: its name has more than {LONGEST_NAME:,} bytes: add a folder within"
            )
        path = file.path.resolve()
        first = self._sources.setdefault(file.name, path)
        if first != path:
            raise DocumentRefused(
                f"{file.path}: {first} is called {file.name!r}, too: rename one, or add the folder above both"
            )

    def _embedded(self, document: Document, size: int) -> NewDocument:
        chunks = chunk(document, self.count_tokens, min(SIZE, self.embedder.max_tokens))
        vectors = self.embedder.embed([each.indexed for each in chunks])
        return NewDocument(
            tenant=self.tenant,
            knowledge=self.knowledge,
            name=document.name,
            sha256=document.sha256,
            format=document.format.value,
            size=size,
            embedder=self.embedder.id,
            chunks=[
                NewChunk(each.id, each.section, *each.span, each.text, vector.tobytes())
                for each, vector in zip(chunks, vectors, strict=True)
            ],
        )
