"""A file as one stream, whatever it consists of."""

import io
from collections.abc import Callable, Sequence
from typing import BinaryIO

from headrace_workers.features.files.object_store import NoSuchObject
from headrace_workers.features.files.store.files import Piece

_TRIES = 3  # a file that grows fast replaces its last object now and then


class PieceStream(io.RawIOBase):
    """The bytes of a file from `start` on. It ends where the file ended when it came there.

    `load` says of which objects the file consists, and `open_piece` opens one. An object that has gone meanwhile was
    replaced by one that begins with the same bytes.
    """

    def __init__(
        self, load: Callable[[], Sequence[Piece]], open_piece: Callable[[str], BinaryIO], start: int = 0
    ) -> None:
        self._load = load
        self._open = open_piece
        self._pieces = list(load())
        self._at = start
        self._current: BinaryIO | None = None
        self._ends = 0  # where the current piece does

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        size = sum(piece.size for piece in self._pieces)
        self._at = max(0, offset + (0, self._at, size)[whence])
        self._release()
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Read some; 0 at the end. NoSuchObject where the file is no more, StoreUnavailable."""
        view = memoryview(buffer)
        if self._current is None and not self._find():
            return 0
        assert self._current is not None  # noqa: S101 - just found
        data = self._current.read(min(len(view), self._ends - self._at))
        view[: len(data)] = data
        self._at += len(data)
        if self._at >= self._ends or not data:
            self._release()
        return len(data)

    def close(self) -> None:
        """Close what is open."""
        self._release()
        super().close()

    def _find(self) -> bool:
        """Open the piece in which we are; False at the end."""
        for last in (*[False] * (_TRIES - 1), True):
            begins = 0
            for piece in self._pieces:
                if begins <= self._at < begins + piece.size:
                    try:
                        self._current = self._open(piece.path)
                    except NoSuchObject:
                        if last:
                            raise
                        break
                    self._current.seek(self._at - begins)
                    self._ends = begins + piece.size
                    return True
                begins += piece.size
            else:
                return False
            self._pieces = list(self._load())
        return False

    def _release(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
