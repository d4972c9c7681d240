"""The files that are stored, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.files.store import files as rows
from headrace_workers.files.store.files import FileBounds, NewFile, Piece

NO_BOUNDS = FileBounds()


class StoredFiles(LedgerStore):
    """The files of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def add(self, new: NewFile, bounds: FileBounds = NO_BOUNDS) -> None:
        """Write down a file whose objects are there. TooManyFiles."""
        with writing(self._engine) as tx:
            rows.check_bounds(tx, new.tenant, sum(piece.size for piece in new.pieces), bounds)
            rows.add(tx, new)

    check_bounds = durable(rows.check_bounds)
    file = reads(rows.file)
    files = reads(rows.files)
    pieces = reads(rows.pieces)
    tail = reads(rows.tail)
    complete = durable(rows.complete)
    in_use = reads(rows.in_use)
    remove = durable(rows.remove)
    expired = reads(rows.expired)
    # -- uploads in parts

    def begin_upload(
        self, *, upload_id: str, tenant: str, purpose: str, name: str, size: int, lives_ms: int,
        file_seconds: int | None, bounds: FileBounds = NO_BOUNDS,
    ) -> Row[Any]:  # fmt: skip
        """Expect a file in parts, for so long. TooManyFiles."""
        with writing(self._engine) as tx:
            rows.check_bounds(tx, tenant, size, bounds, uploads=1)
            return rows.begin_upload(
                tx, upload_id=upload_id, tenant=tenant, purpose=purpose, name=name, size=size, lives_ms=lives_ms,
                file_seconds=file_seconds,
            )  # fmt: skip

    upload = reads(rows.upload)

    def add_part(self, upload_id: str, tenant: str, part_id: str, piece: Piece) -> int | None:
        """Write down a part; when (ms). None where the upload is not pending any more."""
        with writing(self._engine) as tx:
            return rows.add_part(tx, upload_id, part_id, piece) if rows.is_pending(tx, upload_id, tenant) else None

    parts = reads(rows.parts)

    def complete_upload(self, upload_id: str, new: NewFile, part_ids: Sequence[str], completion: str) -> bool:
        """Make a file of these parts of an upload, and keep what it was completed with (SHA-256); whether it was
        pending.
        """
        with writing(self._engine) as tx:
            if not rows.is_pending(tx, upload_id, new.tenant):
                return False
            rows.add(tx, new)
            rows.forget_parts(tx, part_ids)
            rows.end_upload(tx, upload_id, rows.COMPLETED, new.id, completion)
            return True

    def cancel_upload(self, upload_id: str, tenant: str) -> bool:
        """End an upload without a file; whether it was pending."""
        with writing(self._engine) as tx:
            if not rows.is_pending(tx, upload_id, tenant):
                return False
            rows.end_upload(tx, upload_id, "cancelled")
            return True

    expire_uploads = durable(rows.expire_uploads)
    left_over = reads(rows.left_over)
    forget_parts = durable(rows.forget_parts)
