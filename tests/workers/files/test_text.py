"""The text in files, compressed or not, and its lines."""

import gzip
import io
import lzma

import pytest
import zstandard

from headrace_workers.files.text import LineCount, NotReadable, text_of

LINES = b"".join(b'{"n": %d}\n' % number for number in range(5_000))
PACKED = {
    "plain": LINES,
    "gzip": gzip.compress(LINES),
    "two gzips": gzip.compress(LINES[:30_000]) + gzip.compress(LINES[30_000:]),
    "zstd": zstandard.ZstdCompressor().compress(LINES),
    "two zstds": zstandard.compress(LINES[:30_000]) + zstandard.compress(LINES[30_000:]),
}


def counted(data: bytes, step: int) -> int | None:
    """Its lines, counted in chunks of so many bytes."""
    count = LineCount()
    for start in range(0, len(data), step):
        count.feed(data[start : start + step])
    return count.lines


@pytest.mark.parametrize("kind", PACKED)
def test_the_text_is_read_however_it_is_packed(kind):
    """By its first bytes: there is no name to go by."""
    assert text_of(io.BytesIO(PACKED[kind])).read() == LINES


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("step", [1, 3, 1_000, 10**9])
def test_lines_are_counted_in_whatever_chunks_they_come(kind, step):
    """The same number each time."""
    assert counted(PACKED[kind], step) == 5_000


@pytest.mark.parametrize(
    ("text", "lines"), [(b"", 0), (b"\n \n\n", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 2), (b"\r\na\r\n", 1)]
)
@pytest.mark.parametrize("step", [1, 100])
def test_only_lines_with_something_in_them_count(text, lines, step):
    """An end of line is not needed behind the last."""
    assert counted(text, step) == lines


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_is_cut_off_or_spoilt_is_not_readable(kind):
    """It is no line of text, and no end of the file."""
    cut = PACKED[kind][: len(PACKED[kind]) // 2]
    with pytest.raises(NotReadable, match="cannot be decompressed: it ends in the middle"):
        text_of(io.BytesIO(cut)).read()
    spoilt = PACKED[kind][:20] + b"\xff" * 200 + PACKED[kind][220:]
    with pytest.raises(NotReadable):
        text_of(io.BytesIO(spoilt)).read()
    assert counted(spoilt, 64) is None


def test_another_format_is_text_that_nobody_understands():
    """It is not guessed at: its lines will be no JSON."""
    packed = lzma.compress(LINES)
    assert text_of(io.BytesIO(packed)).read() == packed
