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


def counted(data: bytes, step: int) -> int:
    """Its lines, counted in chunks of so many bytes."""
    count = LineCount()
    for start in range(0, len(data), step):
        count.feed(data[start : start + step])
    return count.end()


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
    """It is no line of text, and no end of the file; whoever reads it and whoever counts is told how far it goes."""
    for data, why in (
        (PACKED[kind][: len(PACKED[kind]) // 2], "it ends in the middle"),
        (PACKED[kind][:20] + b"\xff" * 200 + PACKED[kind][220:], ""),
    ):
        text, lines = text_of(io.BytesIO(data)), []
        with pytest.raises(NotReadable, match=f"the file cannot be decompressed: {why}") as caught:
            lines += iter(text.readline, b"")
        said = str(caught.value)
        assert (f"up to line {len(lines):,}: " if lines else "not one line") in said
        with pytest.raises(NotReadable) as caught:
            counted(data, 64)
        assert lines == LINES.splitlines(keepends=True)[: len(lines)]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_one_byte_that_is_missing_at_the_end_is_missed(kind):
    """Though most of the text, or all of it, is there."""
    with pytest.raises(NotReadable, match="it ends in the middle"):
        counted(PACKED[kind][:-1], 10**9)


def test_another_format_is_text_that_nobody_understands():
    """It is not guessed at: its lines will be no JSON."""
    packed = lzma.compress(LINES)
    assert text_of(io.BytesIO(packed)).read() == packed
