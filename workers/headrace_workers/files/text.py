"""The text in a file, which may be compressed: gzip and Zstandard are known by their first bytes, not by a name."""

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.files.looks import HEAD, WANTED, unlike_lines

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BUFFER = 1024**2  # bytes
_PACKED = 65_536  # bytes that are read at once of what is compressed
_STEP = 1024**2  # bytes of text at a time, however much a small file holds
_ZSTANDARD_STEP = 1_024  # bytes of it make 32 MB of text at most
# Bytes of text without a line feed that are read over. Ten megabytes of gzip hold a line of ten gigabytes, and whoever
# looks for its end does nothing else meanwhile.
LONGEST_RUN = 256 * 1024**2


class NotReadable(HeadraceError):
    """A file that cannot be read as lines; `why` goes on from its name."""

    category = Category.INVALID

    def __init__(self, why: str, name: str = "the file") -> None:
        super().__init__(f"{name} {why}")
        self._why = why

    def of(self, name: str) -> "NotReadable":
        """The same, of a file that is called so."""
        return NotReadable(self._why, name)


def _torn(why: str, lines: int) -> NotReadable:
    """What is compressed cannot be read to its end; how many whole lines stand before that place."""
    where = f"it can be read up to line {lines:,}" if lines else "not one line of it can be read"
    return NotReadable(f"cannot be decompressed: {why}; {where}: compress it anew, and send it whole")


def check_beginning(text: bytes) -> None:
    """NotReadable where a text is no JSON lines, but something else as a whole; more than its first HEAD + 1 bytes are
    not needed.
    """
    if (found := unlike_lines(text[:HEAD], whole=len(text) <= HEAD)) is not None:
        raise NotReadable(f"looks like {found}: {WANTED}")


class _Spoilt(Exception):
    """Why something compressed is spoilt."""


class _Unpacks(Protocol):
    """From chunks of something compressed to chunks of text. _Spoilt where it is."""

    @property
    def is_whole(self) -> bool:
        """Whether what came ends where it may end."""

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        """The text in the next chunk."""


class _Plain:
    is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk


class _Gunzip:
    """A gzip file may be several, one behind the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self.is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            self.is_whole = False
            try:
                yield self._member.decompress(chunk, _STEP)
                while self._member.unconsumed_tail:
                    yield self._member.decompress(self._member.unconsumed_tail, _STEP)
            except zlib.error as error:
                raise _Spoilt(str(error)) from error
            chunk = b""
            if self._member.eof:
                chunk = self._member.unused_data.lstrip(b"\0")  # tapes were padded
                self._member = zlib.decompressobj(wbits=31)
                self.is_whole = True


class _Unzstd:
    """Frames, one behind the other."""

    def __init__(self) -> None:
        import zstandard

        self._library: Any = zstandard
        self._frame: Any = zstandard.ZstdDecompressor().decompressobj()
        self.is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _ZSTANDARD_STEP):
            yield from self._some(chunk[start : start + _ZSTANDARD_STEP])

    def _some(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            self.is_whole = False
            try:
                yield self._frame.decompress(chunk)
            except self._library.ZstdError as error:
                raise _Spoilt(str(error)) from error
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame = self._library.ZstdDecompressor().decompressobj()
                self.is_whole = True


class _Texts:
    """The text of a file that begins with `head`, as its chunks come."""

    def __init__(self, head: bytes) -> None:
        self._unpacks: _Unpacks = _Plain()
        if head.startswith(GZIP):
            self._unpacks = _Gunzip()
        elif head.startswith(ZSTANDARD):
            self._unpacks = _Unzstd()
        self._lines = 0
        self._run = 0  # bytes since the last line feed

    @property
    def is_plain(self) -> bool:
        """Whether the file is its text."""
        return isinstance(self._unpacks, _Plain)

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """The text in the next chunk. NotReadable."""
        try:
            for text in self._unpacks(chunk):
                self._count(text)
                yield text
        except _Spoilt as error:
            raise _torn(str(error), self._lines) from error

    def _count(self, text: bytes) -> None:
        self._lines += text.count(b"\n")
        last = text.rfind(b"\n")
        self._run = self._run + len(text) if last < 0 else len(text) - last - 1
        if self._run > LONGEST_RUN:
            raise NotReadable(f"has more than {LONGEST_RUN:,} bytes in line {self._lines + 1:,}: {WANTED}")

    def end(self) -> None:
        """There are no more chunks. NotReadable where there should be."""
        if not self._unpacks.is_whole:
            raise _torn("it ends in the middle", self._lines)


def text_of(raw: io.RawIOBase) -> BinaryIO:
    """The text in a stream that stands at its beginning. What was compressed cannot be sought in."""
    buffered = io.BufferedReader(raw, _BUFFER)
    texts = _Texts(buffered.peek(len(ZSTANDARD)))
    return buffered if texts.is_plain else io.BufferedReader(_Unpacked(buffered, texts), _BUFFER)


class _Unpacked(io.RawIOBase):
    def __init__(self, packed: BinaryIO, texts: _Texts) -> None:
        self._packed = packed
        self._texts = self._unpack(packed, texts)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            text = next(self._texts, None)
            if text is None:
                return 0
            self._left = text
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        self._packed.close()
        super().close()

    @staticmethod
    def _unpack(packed: BinaryIO, texts: _Texts) -> Iterator[bytes]:
        while chunk := packed.read(_PACKED):
            yield from texts.of(chunk)
        texts.end()


class LineCount:
    """Counts the lines with something in them, of a file that comes in chunks, compressed or not. NotReadable where it
    is something else than JSON lines, too.
    """

    def __init__(self) -> None:
        self._head = b""
        self._texts: _Texts | None = None
        self._lines = 0
        self._has_something = False  # the line that has begun
        self._first: bytes | None = b""  # of the text, until it was looked at

    def feed(self, chunk: bytes) -> None:
        """Here is more of the file. NotReadable."""
        if self._texts is None:
            self._head += chunk
            if len(self._head) < len(ZSTANDARD):
                return
            chunk = self._head
        self._take(chunk)

    def end(self) -> int:
        """That was all: how many there were. NotReadable."""
        if self._texts is None:
            self._take(self._head)
        assert self._texts is not None  # noqa: S101 - just taken
        self._texts.end()
        self._look(b"", whole=True)
        return self._lines + self._has_something

    def _take(self, chunk: bytes) -> None:
        self._texts = self._texts or _Texts(self._head)
        for text in self._texts.of(chunk):
            self._look(text)
            self._count(text)

    def _look(self, text: bytes, *, whole: bool = False) -> None:
        if self._first is None:
            return
        self._first += text
        if whole or len(self._first) > HEAD:
            check_beginning(self._first)
            self._first = None

    def _count(self, text: bytes) -> None:
        first, *rest = text.split(b"\n")
        self._has_something = self._has_something or bool(first.strip())
        for line in rest:
            self._lines += self._has_something
            self._has_something = bool(line.strip())
