"""Changes of documents, as workers follow them."""

from typing import NamedTuple

from sqlalchemy import Connection

from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import Mark, Position
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.knowledge.tables import DOCUMENT, DOCUMENTS


class DocumentChange(NamedTuple):
    """A document as it is now, and whose; without a tenant it is no more."""

    mark: Mark
    document_id: int
    tenant: str | None
    knowledge: str | None

    @property
    def position(self) -> Position:
        """Return the follower's position."""
        return self.mark.position


def follow(connection: Connection, after: Position, limit: int) -> list[DocumentChange]:
    """Return the changes of documents after a position, in order, each with whose the document is now."""
    columns, where = (DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge), DOCUMENTS.c.id == CHANGES.c.subject
    found = change_feed.follow(connection, DOCUMENT, after, limit, columns, where)
    return [DocumentChange(mark, mark.subject, row.tenant, row.knowledge) for mark, row in found]
