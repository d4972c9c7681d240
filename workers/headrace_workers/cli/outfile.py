"""The file that receipts are written to: whole lines, on the disk before they count, and taken up again later."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError, InvalidRecord
from headrace_workers.cli.receipt import LINE_START, Receipt


class NotReceipts(HeadraceError):
    """The output file has something else in it; it is left as it is."""

    category = Category.INVALID


class ReceiptFile:
    """Appends receipts to a file. Opening it cuts off a torn last line and remembers which jobs are there.

    One process at a time: another one's file is a ConfigurationError. NotReceipts when the file is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_ids: set[str] = set()
        self.cut_bytes = 0  # of a torn last line
        self._file: BinaryIO | None = None

    def open(self) -> Self:
        """Lock, check and repair the file; create it where it is not there."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}; choose another file") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._repair(self._file)
        except BlockingIOError:
            self.close()
            raise ConfigurationError(
                f"another run writes to {self.path}: wait for it, or choose another file"
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    def append(self, receipts: Iterable[Receipt]) -> None:
        """Write these receipts, those of jobs that are there already left out, and wait until they are on the disk."""
        if self._file is None:
            raise RuntimeError("the file is not open")
        chunk = bytearray()
        for receipt in receipts:
            if receipt.job_id is None or receipt.job_id in self.job_ids:
                continue
            self.job_ids.add(receipt.job_id)
            chunk += receipt.to_json() + b"\n"
        if chunk:
            self._file.write(chunk)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file. Closing twice does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repair(self, file: BinaryIO) -> None:
        file.seek(0)
        whole = 0
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                if not _is_torn(text):
                    raise NotReceipts(f"{self.path}:{number}: it is no receipt; choose another file with -o")
                self.cut_bytes = len(text)
                file.truncate(whole)
                break
            try:
                receipt = Receipt.from_json(text)
            except InvalidRecord as error:
                raise NotReceipts(
                    f"{self.path}:{number}: it is no receipt ({error}); choose another file with -o"
                ) from None
            if receipt.job_id:
                self.job_ids.add(receipt.job_id)
            whole += len(text)


def _is_torn(text: bytes) -> bool:
    """Whether this may be the beginning of a line that we wrote; after a power cut it may be zeros."""
    start = text.rstrip(b"\x00")[: len(LINE_START)]
    return LINE_START.startswith(start)


def read_receipts(path: Path) -> Iterator[Receipt]:
    """The receipts in a file, in its order."""
    with path.open("rb") as file:
        for text in file:
            yield Receipt.from_json(text)
