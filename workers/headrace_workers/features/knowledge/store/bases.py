"""The knowledge bases, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from headrace_schemas.attributes import AttributeMap
from headrace_workers.core.ledger import changes
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.knowledge.store import base_uses, documents
from headrace_workers.features.knowledge.store.base_uses import LatelyUsed
from headrace_workers.features.knowledge.store.documents import ChunkAt, NewDocument


class KnowledgeBases(LedgerStore):
    """The knowledge bases of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def put(self, document: NewDocument) -> int | None:
        """Write a document in the place of the one of its name; its id, or None where that is the same."""
        with writing(self._engine) as tx:
            return documents.put(tx, document)

    def describe(self, document_id: int, sha256: str, attributes: AttributeMap) -> bool:
        """Give a document that comes from this file these attributes and no others; whether that changed any."""
        with writing(self._engine) as tx:
            return documents.describe(tx, document_id, sha256, attributes)

    def remove(self, document_ids: Sequence[int]) -> int:
        """Forget these documents; how many were there."""
        with writing(self._engine) as tx:
            return documents.remove(tx, document_ids)

    def documents(self, tenant: str, knowledge: str, after: str, limit: int) -> list[Row[Any]]:
        """A base's documents whose names come after this one, in order of name."""
        with reading(self._engine) as tx:
            return documents.documents(tx, tenant, knowledge, after, limit)

    def exists(self, tenant: str, knowledge: str) -> bool:
        """Whether the tenant has a base of this name, if only an empty vector store."""
        with reading(self._engine) as tx:
            return documents.exists(tx, tenant, knowledge)

    def unknown(self, named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of these bases (tenant and name) that do not exist."""
        with reading(self._engine) as tx:
            return documents.unknown(tx, named)

    def bases(self, tenant: str | None = None) -> list[Row[Any]]:
        """All knowledge bases, or a tenant's, in order of tenant and name."""
        with reading(self._engine) as tx:
            return documents.bases(tx, tenant)

    def asked(self, questions: Mapping[tuple[str, str], int]) -> None:
        """So many questions more were asked of each base, by tenant and name."""
        with writing(self._engine) as tx:
            base_uses.count(tx, questions)

    def lately_used(self, limit: int) -> list[LatelyUsed]:
        """The bases that were asked or filled in the last week: those asked most first, then the newest."""
        with reading(self._engine) as tx:
            return base_uses.lately(tx, limit)

    def chunks(
        self, tenant: str, knowledge: str, after: ChunkAt, limit: int, document_id: int | None = None
    ) -> list[Row[Any]]:
        """The chunks of a base, or of one document of it, after a place, in order."""
        with reading(self._engine) as tx:
            return documents.chunks(tx, tenant, knowledge, after, limit, document_id)

    def mark(self, up_to: changes.Position) -> changes.Mark | None:
        """The last change of a document up to a position; None where there is none."""
        with reading(self._engine) as tx:
            return changes.mark(tx, up_to, "document")

    def stands(self, mark: changes.Mark) -> bool:
        """Whether who has followed up to there may go on: see `changes.stands`."""
        with reading(self._engine) as tx:
            return changes.stands(tx, mark, "document")

    def changed(self, after: changes.Position, limit: int) -> list[changes.DocumentChange]:
        """What changed of documents since then, in order."""
        with reading(self._engine) as tx:
            return changes.follow_documents(tx, after, limit)
