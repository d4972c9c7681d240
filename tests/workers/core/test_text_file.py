import gzip
import io
import lzma
import tracemalloc
from collections import deque

import pytest
import zstandard

from headrace_workers.core import text_file as bounds
from headrace_workers.core.text_file import LineCount, NotReadable, text_of

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
    assert text_of(io.BytesIO(PACKED[kind])).read() == LINES


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("step", [1, 1_000, 10**9])
def test_lines_are_counted_in_whatever_chunks_they_come(kind, step):
    assert counted(PACKED[kind], step) == 5_000


@pytest.mark.parametrize(
    ("text", "lines"), [(b"", 0), (b"\n \n\n", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 2), (b"\r\na\r\n", 1)]
)
@pytest.mark.parametrize("step", [1, 100])
def test_only_lines_with_something_in_them_count(text, lines, step):
    assert counted(text, step) == lines


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_is_cut_off_or_spoilt_is_not_readable(kind):
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


def packed(kind, part, times):
    packer = zstandard.ZstdCompressor().compressobj() if kind == "zstd" else bounds.zlib.compressobj(wbits=31)
    return b"".join(packer.compress(part) for _ in range(times)) + packer.flush()


def read(data):
    deque(iter(text_of(io.BytesIO(data)).readline, b""), maxlen=0)


def refused(data):
    """A count of lines and a read of lines refuse a file with the same reason."""
    with pytest.raises(NotReadable) as by_reader:
        read(data)
    with pytest.raises(NotReadable) as by_counter:
        counted(data, 65_536)
    assert str(by_reader.value) == str(by_counter.value)
    return str(by_reader.value)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("line", [b"\n", b"a\n"])
def test_a_few_bytes_that_claim_to_be_very_many_lines_are_refused(kind, line, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_LINES", 100_000)
    data = packed(kind, line * 1_000_000, 64)
    assert len(data) < 200_000
    tracemalloc.start()
    said = refused(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said == "the file has more than 100,000 lines, empty ones among them: split it into several files"
    assert peak < 20 * 1024**2


def test_a_million_lines_are_taken():
    """Though they are packed thirty to one."""
    lines = b"".join(b'{"custom_id": "%d", "body": {"prompt": "How are you?"}}\n' % n for n in range(1_000_000))
    assert counted(zstandard.compress(lines, 1), 65_536) == 1_000_000


def test_long_lines_that_are_much_alike_are_taken_up_to_a_bound(monkeypatch):
    line = b"x" * 100_000 + b"\n"
    data = packed("zstd", line, 30)
    assert len(line) * 30 > 2 * bounds.MOST_RATIO * len(data)
    assert counted(data, 64) == 30
    monkeypatch.setattr(bounds, "DENSE_TEXT", 1_000_000)
    said = refused(data)
    assert said.startswith(f"the file is packed too densely: {len(data):,} bytes of it hold more than ")
    assert said.endswith("beyond 1,000,000 each may hold 1,000: split it into several files")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_is_compressed_holds_no_more_than_may_be_sent_as_it_is(kind, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_TEXT", 50_000)
    said = refused(PACKED[kind])
    assert said.startswith("the file holds more than 50,000 bytes of text, which line ")
    assert counted(LINES, 1_000) == 5_000


@pytest.mark.integration  # seconds
@pytest.mark.parametrize("part", [gzip.compress(b""), zstandard.compress(b"")], ids=["gzip", "zstd"])
def test_what_holds_no_text_is_refused(part):
    """A wait for the next line would read all of it first: a megabyte of gzip may be fifty thousand members."""
    assert "holds hardly any text: 0 bytes in the first " in refused(part * (1_200_000 // len(part)))


def test_what_asks_its_reader_for_much_memory_is_refused():
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=24)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    data = packer.compress(LINES * 200) + packer.flush()
    assert "without --long, --ultra or a level above 19" in refused(data)
    assert text_of(io.BytesIO(data), bounded=False).read() == LINES * 200


def test_who_counts_is_asked_for_each_part_whether_to_go_on():
    heard = []

    def goes_on():
        heard.append(1)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LineCount(goes_on).feed(packed("zstd", b"a\n" * 1_000_000, 9))
    assert len(heard) == 3
