"""The file that receipts are written to: whole lines, on the disk before they count, and taken up again later."""

import fcntl
import io
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError, InvalidRecord
from headrace_workers.cli.receipts import LINE_START, Receipt
from headrace_workers.cli.streams import OutputFailed, ReaderGone


class NotReceipts(HeadraceError):
    """An output file that holds something other than receipts; it is left as it is."""

    category = Category.INVALID


class ReceiptFile:
    """A file to which receipts are appended. Opening it cuts off a torn last line and remembers which jobs are there.

    One process at a time: another one's file is a ConfigurationError. NotReceipts when the file is none of ours. A pipe
    or a device only gets receipts: `keeps` is false, and nothing is read from it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_ids: set[str] = set()
        self.refusals: dict[str, Receipt] = {}  # of the jobs whose last receipt is one
        self.outdated: set[int] = set()  # numbers of lines that a later one of the same job is to replace
        self.cut_bytes = 0  # of a torn last line
        self.keeps = True  # whether it can be read back
        self._file: io.FileIO | None = None
        self._refused_at: dict[str, int] = {}  # the numbers of the lines of `refusals`

    def open(self) -> Self:
        """Lock, check and repair the file; create it if it does not exist."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.keeps = self.path.is_file() or not self.path.exists()
            self._file = io.FileIO(self.path, "a+" if self.keeps else "a")
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}; choose another file") from error
        if not self.keeps:
            return self
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
        """Append these receipts, except for jobs that have one, and wait until they are on the disk.

        Raise OutputFailed, for example if the disk is full. An incomplete line is cut off when the file is opened
        again.
        """
        if self._file is None:
            raise RuntimeError("the file is not open")
        new: dict[str, bytes] = {}
        for receipt in receipts:
            if receipt.job_id is not None and receipt.job_id not in self.job_ids:
                new.setdefault(receipt.job_id, receipt.to_json() + b"\n")
        if new:
            self._write(self._file, memoryview(b"".join(new.values())))
            self.job_ids |= new.keys()

    def ask_again(self, job_id: str) -> None:
        """Mark the receipt of a job that was refused as outdated."""
        del self.refusals[job_id]
        self.job_ids.discard(job_id)
        self.outdated.add(self._refused_at.pop(job_id))

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

    def _write(self, file: io.FileIO, rest: memoryview) -> None:
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
            if self.keeps:
                os.fsync(file.fileno())
        except BrokenPipeError:
            raise ReaderGone(f"the reader of {self.path} has closed it") from None
        except OSError as error:
            raise OutputFailed(f"{self.path} cannot be written: {error.strerror}") from error

    def _repair(self, file: io.FileIO) -> None:
        file.seek(0)
        reader = io.BufferedRandom(file)
        try:
            self._read(reader)
        finally:
            reader.detach()

    def _read(self, file: BinaryIO) -> None:
        whole = 0
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                if not _is_torn(text):
                    raise NotReceipts(f"{self.path}:{number}: it is not a receipt; choose another file with -o")
                self.cut_bytes = len(text)
                file.truncate(whole)
                break
            try:
                receipt = Receipt.from_json(text)
            except InvalidRecord as error:
                raise NotReceipts(
                    f"{self.path}:{number}: it is not a receipt ({error}); choose another file with -o"
                ) from None
            self._note(number, receipt)
            whole += len(text)

    def _note(self, number: int, receipt: Receipt) -> None:
        """Remember a receipt. A refusal may have a later receipt, since refused lines are sent again."""
        job_id = receipt.job_id
        if not job_id:
            return
        self.job_ids.add(job_id)
        if before := self._refused_at.pop(job_id, None):
            self.outdated.add(before)
            del self.refusals[job_id]
        if receipt.refused:
            self._refused_at[job_id] = number
            self.refusals[job_id] = receipt


def _is_torn(text: bytes) -> bool:
    """Return True if this may be the beginning of a line that we wrote; after a power cut it may be zeros."""
    start = text.rstrip(b"\x00")[: len(LINE_START)]
    return LINE_START.startswith(start)


def read_receipts(path: Path, outdated: Collection[int] = ()) -> Iterator[Receipt]:
    """Yield the receipts in a file, in its order, except the lines of these numbers."""
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if number not in outdated:
                yield Receipt.from_json(text)
