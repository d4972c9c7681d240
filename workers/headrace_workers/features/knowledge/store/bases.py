"""The knowledge bases, as the ledger keeps them. Each method is one transaction."""

from headrace_workers.core.ledger import change_feed
from headrace_workers.core.sql.database import reading
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.knowledge.store import base_uses, document_changes, documents
from headrace_workers.features.knowledge.tables import DOCUMENT


class KnowledgeBases(LedgerStore):
    """The knowledge bases of one ledger. Thread-safe. Unavailable when the database does not answer."""

    put = durable(documents.put)
    describe = durable(documents.describe)
    remove = durable(documents.remove)
    exists = reads(documents.exists)
    unknown = reads(documents.unknown)
    bases = reads(documents.bases)
    chunks = reads(documents.chunks)

    asked = durable(base_uses.count)
    lately_used = reads(base_uses.lately)

    changed = reads(document_changes.follow)

    def mark(self, up_to: change_feed.Position) -> change_feed.Mark | None:
        """Return the last change of a document up to a position; None if there is none."""
        with reading(self._engine) as tx:
            return change_feed.mark(tx, up_to, DOCUMENT)

    def stands(self, mark: change_feed.Mark) -> bool:
        """Return True if a follower may go on from this change: see `changes.stands`."""
        with reading(self._engine) as tx:
            return change_feed.stands(tx, mark, DOCUMENT)

    documents = reads(documents.documents)
