"""Recognition of files that are meant to be JSON lines and are another format as a whole, so that one error names
it.
"""

import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final, Protocol

from headrace_schemas.errors import Category, HeadraceError

HEAD: Final = 4_096  # bytes of a text that tell
WANTED: Final = (
    'headrace takes JSON Lines: one JSON object a line, in UTF-8, such as {"prompt": "Name three rivers."}, or a '
    "request with custom_id, method, url and body"
)
_MAGIC: Final = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"PK\x03\x04": "a ZIP archive, such as an Excel or Word file",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF-": "a PDF",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\0\0\xfe\xff": "UTF-32",
}
_BOM: Final = b"\xef\xbb\xbf"
_SEPARATORS: Final = {b",": "CSV", b";": "CSV with semicolons", b"\t": "tab-separated values"}


def unlike_lines(head: bytes, *, whole: bool) -> str | None:
    """Return the format of a text with this `head` if it certainly is not JSON lines. `whole`: it has no more text.

    A first line that is merely wrong says nothing of the others.
    """
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if b"\0" in head[:4]:  # no JSON has one, and in UTF-16 every second byte of such a text is one
        return "UTF-16 or UTF-32"
    text = head.removeprefix(_BOM).lstrip()
    lines = [line.strip() for line in (text if whole else text.rpartition(b"\n")[0]).splitlines() if line.strip()]
    if text.startswith(b"<"):
        return "XML or HTML"
    if text.startswith((b"[", b"{")):
        return _document(lines, whole=whole)
    return _table(lines)


def _document(lines: Sequence[bytes], *, whole: bool) -> str | None:
    """Recognise one JSON document over several lines, or a list of all in one line."""
    if len(lines) > 1 and lines[0] == b"[" and lines[1].startswith(b"{"):
        return "one JSON array"
    if len(lines) > 1 and lines[0] == b"{" and lines[1].startswith(b'"') and not _is_json(lines[1]):
        return "one JSON document over several lines"
    in_one = len(lines) == 1 and whole and isinstance(_value(lines[0]), list)
    return "one JSON array" if in_one and isinstance(next(iter(_value(lines[0])), None), dict) else None


def _table(lines: Sequence[bytes]) -> str | None:
    if len(lines) < 2 or any(_is_json(line) or line.startswith(b"{") for line in lines):
        return None
    for separator, name in _SEPARATORS.items():
        if all(separator in line for line in lines):
            return name
    return None


def _is_json(line: bytes) -> bool:
    return _value(line) is not None or line == b"null"


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BUFFER = 1024**2  # bytes
_PACKED = 65_536  # bytes of compressed data that are read at once
_STEP = 1024**2  # bytes of text at a time, however much a small file holds
_GZIP_STEP = 4_096  # bytes of it: what zlib leaves of these is copied for each member that ends in them
_ZSTANDARD_STEP = 64  # bytes of it make 2 MB of text at most
# Bytes of text without a line feed that are skipped. Ten megabytes of gzip hold a line of ten gigabytes, and a reader
# that looks for its end does nothing else meanwhile.
LONGEST_RUN = 256 * 1024**2

# Bounds of a compressed file. A million lines of a batch are a gigabyte or two; four kilobytes may claim to be as
# much, and their reader does nothing else meanwhile.
MOST_TEXT: Final = 8 * 1024**3  # bytes of text: as much as may be sent as it is
MOST_LINES: Final = 10_000_000  # of any file, empty ones among them
DENSE_TEXT: Final = 1024**3  # bytes of text that may be packed as densely as it goes: long lines may be much alike
MOST_RATIO: Final = 1_000  # bytes of text beyond these for each byte that was sent
MOST_WINDOW: Final = 8 * 1024**2  # bytes that a Zstandard file may ask a reader to remember: levels up to 19 ask for it
_MOST_WINDOW_LOG: Final = MOST_WINDOW.bit_length() - 1
_TOO_WIDE: Final = "too much memory"  # in Zstandard's words for a window beyond the bound
_SHORT: Final = 64  # bytes of lines that are not looked at one by one
_SPACE: Final = b" \t\r\v\f"
_MARKS: Final = bytes(byte if byte == ord("\n") else ord("x") for byte in range(256))
# Bytes that may hold hardly any text; of others each two hold a byte at least. Empty members of gzip take 2 µs each: 16
# MiB of them took two seconds of a core, and more on a busy machine.
_HOLLOW: Final = 1024**2


class NotReadable(HeadraceError):
    """A file that cannot be read as lines; `why` goes on from its name."""

    category = Category.INVALID

    def __init__(self, why: str, name: str = "the file") -> None:
        super().__init__(f"{name} {why}")
        self._why = why

    def of(self, name: str) -> "NotReadable":
        """Return the same error with this file's name."""
        return NotReadable(self._why, name)


class TooManyLines(NotReadable):
    """A file with more lines than files may have."""

    def __init__(self) -> None:
        super().__init__(f"has more than {MOST_LINES:,} lines, empty ones among them: split it into several files")


def _torn(why: str, lines: int) -> NotReadable:
    """Return the error of compressed data that cannot be read to its end; `lines` counts the whole lines before that
    place.
    """
    where = f"it can be read up to line {lines:,}" if lines else "not one line of it can be read"
    return NotReadable(f"cannot be decompressed: {why}; {where}: compress it anew, and send it whole")


def check_beginning(text: bytes) -> None:
    """Raise NotReadable if a text is something other than JSON lines. Its first HEAD + 1 bytes are enough."""
    if (found := unlike_lines(text[:HEAD], whole=len(text) <= HEAD)) is not None:
        raise NotReadable(f"looks like {found}; {WANTED}")


class _Spoilt(Exception):
    """The reason why compressed data cannot be read."""


class _Unpacks(Protocol):
    """Decompressor of chunks to chunks of text. Raises _Spoilt for spoilt data."""

    @property
    def is_whole(self) -> bool:
        """Return True if the data that came may end here."""

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the text in the next chunk."""


class _Plain:
    is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk


class _Gunzip:
    """A gzip file may be several, one after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self.is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _GZIP_STEP):
            yield from self._some(chunk[start : start + _GZIP_STEP])

    def _some(self, chunk: bytes) -> Iterator[bytes]:
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
    """Frames, one after the other; their window is bounded unless it is `any_window`."""

    def __init__(self, *, any_window: bool) -> None:
        self._bounds: dict[int, int] | None = (
            None if any_window else {zstd.DecompressionParameter.window_log_max: _MOST_WINDOW_LOG}
        )
        self._frame = zstd.ZstdDecompressor(options=self._bounds)
        self.is_whole = True

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _ZSTANDARD_STEP):
            yield from self._some(chunk[start : start + _ZSTANDARD_STEP])

    def _some(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            self.is_whole = False
            try:
                yield self._frame.decompress(chunk)
            except zstd.ZstdError as error:
                if _TOO_WIDE in str(error):
                    raise NotReadable(
                        f"was compressed with a window of more than {MOST_WINDOW:,} bytes: compress it anew without "
                        "--long, --ultra or a level above 19"
                    ) from error
                raise _Spoilt(str(error)) from error
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame = zstd.ZstdDecompressor(options=self._bounds)
                self.is_whole = True


class _Texts:
    """The text of a file that begins with `head`, as its chunks come. `bounded`: it may hold no more than files may."""

    def __init__(self, head: bytes, *, bounded: bool = True) -> None:
        self._unpacks: _Unpacks = _Plain()
        if head.startswith(GZIP):
            self._unpacks = _Gunzip()
        elif head.startswith(ZSTANDARD):
            self._unpacks = _Unzstd(any_window=not bounded)
        self._bounded = bounded
        self._packed = 0  # bytes that came
        self._text = 0  # bytes that were in them
        self._lines = 0
        self._run = 0  # bytes since the last line feed

    @property
    def is_plain(self) -> bool:
        """Return True if the file is not compressed."""
        return isinstance(self._unpacks, _Plain)

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the text in the next chunk. Raise NotReadable."""
        self._packed += len(chunk)
        try:
            for text in self._unpacks(chunk):
                self._count(text)
                yield text
        except _Spoilt as error:
            raise _torn(str(error), self._lines) from error
        if self._packed > 2 * self._text + _HOLLOW:
            raise NotReadable(
                f"holds hardly any text: {self._text:,} bytes in the first {self._packed:,}: compress all of it anew"
            )

    def _count(self, text: bytes) -> None:
        self._text += len(text)
        self._lines += text.count(b"\n")
        if self._bounded:
            self._check()
        last = text.rfind(b"\n")
        self._run = self._run + len(text) if last < 0 else len(text) - last - 1
        if self._run > LONGEST_RUN:
            raise NotReadable(f"has more than {LONGEST_RUN:,} bytes in line {self._lines + 1:,}; {WANTED}")

    def _check(self) -> None:
        if self._lines > MOST_LINES:
            raise TooManyLines
        if self.is_plain:
            return
        if self._text > MOST_TEXT:
            raise NotReadable(
                f"holds more than {MOST_TEXT:,} bytes of text, which line {self._lines + 1:,} reaches: split it into "
                "several files"
            )
        if self._text > DENSE_TEXT + MOST_RATIO * self._packed:
            raise NotReadable(
                f"is packed too densely: {self._packed:,} bytes of it hold more than {self._text:,} bytes of text, up "
                f"to line {self._lines + 1:,}, and beyond {DENSE_TEXT:,} each may hold {MOST_RATIO:,}: split it into "
                "several files"
            )

    def end(self) -> None:
        """End the file. Raise NotReadable if chunks are missing."""
        if not self._unpacks.is_whole:
            raise _torn("it ends in the middle", self._lines)


def text_of(raw: io.RawIOBase, *, bounded: bool = True) -> BinaryIO:
    """Return the text in a stream that stands at its beginning. Compressed text cannot be sought in. It may
    hold no more than files may, unless it is not `bounded`: a person's own file, on this machine.
    """
    buffered = io.BufferedReader(raw, _BUFFER)
    texts = _Texts(buffered.peek(len(ZSTANDARD)), bounded=bounded)
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
    """A count of the lines that are not empty, of a file that comes in chunks, compressed or not. NotReadable where it
    is something else than JSON lines, too. `goes_on` is called for each part of the text, and may raise.
    """

    def __init__(self, goes_on: Callable[[], object] = lambda: None) -> None:
        self._goes_on = goes_on
        self._head = b""
        self._texts: _Texts | None = None
        self._lines = 0
        self._has_something = False  # the line that has begun
        self._first: bytes | None = b""  # of the text, until it was looked at

    def feed(self, chunk: bytes) -> None:
        """Count the lines of the next chunk. Raise NotReadable."""
        if self._texts is None:
            self._head += chunk
            if len(self._head) < len(ZSTANDARD):
                return
            chunk = self._head
        self._take(chunk)

    def end(self) -> int:
        """End the file and return the number of lines. Raise NotReadable."""
        if self._texts is None:
            self._take(self._head)
        assert self._texts is not None  # noqa: S101 - just taken
        self._texts.end()
        self._look(b"", whole=True)
        return self._lines + self._has_something

    def _take(self, chunk: bytes) -> None:
        self._texts = self._texts or _Texts(self._head)
        for text in self._texts.of(chunk):
            self._goes_on()
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
        """Count the lines without holding all of them: of two megabytes of line feeds they would take twenty."""
        if text.count(b"\n") * _SHORT > len(text):
            self._count_short(text)
            return
        start = 0
        while (end := text.find(b"\n", start)) >= 0:
            self._lines += self._has_something or bool(text[start:end].strip())
            self._has_something, start = False, end + 1
        self._has_something = self._has_something or bool(text[start:].strip())

    def _count_short(self, text: bytes) -> None:
        """Count the lines twenty times as fast where there are very many of them."""
        marks = text.translate(_MARKS, _SPACE)
        if self._has_something:
            marks = b"x" + marks
        self._lines += marks.count(b"x\n")
        self._has_something = marks.endswith(b"x")
