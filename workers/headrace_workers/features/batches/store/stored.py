"""The files that are stored, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.batches.store import files
from headrace_workers.features.batches.store.files import FileBounds, NewFile, Piece, Tail

NO_BOUNDS = FileBounds()


class StoredFiles(LedgerStore):
    """The files of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def add(self, new: NewFile, bounds: FileBounds = NO_BOUNDS) -> None:
        """Write down a file whose objects are there. TooManyFiles."""
        with writing(self._engine) as tx:
            files.check_bounds(tx, new.tenant, sum(piece.size for piece in new.pieces), bounds)
            files.add(tx, new)

    def check_bounds(self, tenant: str, size: int, bounds: FileBounds) -> None:
        """Raise TooManyFiles if the tenant may not keep so many bytes more."""
        with writing(self._engine) as tx:
            files.check_bounds(tx, tenant, size, bounds)

    def file(self, file_id: str, tenant: str | None = None) -> Row[Any] | None:
        """A file; with `tenant` only where it is that one's."""
        with reading(self._engine) as tx:
            return files.file(tx, file_id, tenant)

    def files(
        self,
        tenant: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        newest_first: bool = True,
    ) -> list[Row[Any]]:
        """A tenant's files by age, those that come after the file `after`."""
        with reading(self._engine) as tx:
            return files.files(tx, tenant, purpose=purpose, after=after, limit=limit, newest_first=newest_first)

    def pieces(self, file_id: str) -> list[Piece]:
        """The objects that a file consists of, in order."""
        with reading(self._engine) as tx:
            return files.pieces(tx, file_id)

    def tail(self, file_id: str) -> Tail:
        """Where a file ends: one that has grown long consists of very many objects."""
        with reading(self._engine) as tx:
            return files.tail(tx, file_id)

    def complete(self, file_id: str, digest: str) -> None:
        """A file grows no more."""
        with writing(self._engine) as tx:
            files.complete(tx, file_id, digest)

    def in_use(self, file_id: str) -> str | None:
        """A batch that is not over and reads or writes this file."""
        with reading(self._engine) as tx:
            return files.in_use(tx, file_id)

    def remove(self, file_ids: Sequence[str]) -> list[str]:
        """Forget files; the paths of their objects, which nobody needs any more."""
        with writing(self._engine) as tx:
            return files.remove(tx, file_ids)

    def expired(self, limit: int) -> list[str]:
        """Files whose time is over, and that no batch needs."""
        with reading(self._engine) as tx:
            return files.expired(tx, limit)

    # -- uploads in parts

    def begin_upload(
        self, *, upload_id: str, tenant: str, purpose: str, name: str, size: int, lives_ms: int,
        file_seconds: int | None, bounds: FileBounds = NO_BOUNDS,
    ) -> Row[Any]:  # fmt: skip
        """Expect a file in parts, for so long. TooManyFiles."""
        with writing(self._engine) as tx:
            files.check_bounds(tx, tenant, size, bounds, uploads=1)
            return files.begin_upload(
                tx, upload_id=upload_id, tenant=tenant, purpose=purpose, name=name, size=size, lives_ms=lives_ms,
                file_seconds=file_seconds,
            )  # fmt: skip

    def upload(self, upload_id: str, tenant: str) -> Row[Any] | None:
        """A tenant's upload."""
        with reading(self._engine) as tx:
            return files.upload(tx, upload_id, tenant)

    def add_part(self, upload_id: str, tenant: str, part_id: str, piece: Piece) -> int | None:
        """Write down a part; when (ms). None where the upload is not pending any more."""
        with writing(self._engine) as tx:
            return files.add_part(tx, upload_id, part_id, piece) if files.is_pending(tx, upload_id, tenant) else None

    def parts(self, upload_id: str) -> dict[str, Piece]:
        """The parts of an upload by id."""
        with reading(self._engine) as tx:
            return files.parts(tx, upload_id)

    def complete_upload(self, upload_id: str, new: NewFile, part_ids: Sequence[str], completion: str) -> bool:
        """Make a file of these parts of an upload, and keep what it was completed with (SHA-256); whether it was
        pending.
        """
        with writing(self._engine) as tx:
            if not files.is_pending(tx, upload_id, new.tenant):
                return False
            files.add(tx, new)
            files.forget_parts(tx, part_ids)
            files.end_upload(tx, upload_id, files.COMPLETED, new.id, completion)
            return True

    def cancel_upload(self, upload_id: str, tenant: str) -> bool:
        """End an upload without a file; whether it was pending."""
        with writing(self._engine) as tx:
            if not files.is_pending(tx, upload_id, tenant):
                return False
            files.end_upload(tx, upload_id, "cancelled")
            return True

    def expire_uploads(self, limit: int) -> None:
        """End uploads that were not completed in time, and forget those that ended a day ago and left nothing."""
        with writing(self._engine) as tx:
            files.expire_uploads(tx, limit)

    def left_over(self, limit: int, upload_id: str | None = None) -> dict[str, str]:
        """Paths of parts that nobody needs any more, by their ids: of all uploads that are over, or of one."""
        with reading(self._engine) as tx:
            return files.left_over(tx, limit, upload_id)

    def forget_parts(self, part_ids: Sequence[str]) -> None:
        """These parts are no more."""
        with writing(self._engine) as tx:
            files.forget_parts(tx, part_ids)
