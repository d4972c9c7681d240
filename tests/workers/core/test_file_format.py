import gzip

import pytest

from headrace_workers.core.text_file import HEAD, LineCount, NotReadable, unlike_lines

CSV = b"question,answer\nName three rivers.,Oder\n" * 200
JOB = b'{"prompt": "Name three rivers, please."}\n'


def counted(data: bytes, step: int) -> int:
    """Its lines, counted in chunks of so many bytes."""
    count = LineCount()
    for start in range(0, len(data), step):
        count.feed(data[start : start + step])
    return count.end()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (CSV, "CSV"),
        (b"\xef\xbb\xbf" + CSV, "CSV"),
        (b'"a","b"\r\n"1","2"\r\n', "CSV"),
        (b"a;b\n1;2\n", "CSV with semicolons"),
        (b"a\tb\n1\t2\n", "tab-separated values"),
        (b'[\n  {"prompt": "a"},\n  {"prompt": "b"}\n]\n', "one JSON array"),
        (b'[{"prompt": "a"}, {"prompt": "b"}]', "one JSON array"),
        (b'{\n  "prompt": "a"\n}\n', "one JSON document over several lines"),
        (JOB.decode().encode("utf-16"), "UTF-16"),
        (JOB.decode().encode("utf-16-le"), "UTF-16 or UTF-32"),
        (JOB.decode().encode("utf-32-be"), "UTF-16 or UTF-32"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"PK\x03\x04\x14", "a ZIP archive, such as an Excel or Word file"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"<?xml version='1.0'?>\n<jobs/>\n", "XML or HTML"),
    ],
)
def test_it_is_told_as_what_it_is(text: bytes, what: str):
    assert unlike_lines(text[:HEAD], whole=len(text) <= HEAD) == what
    for packed in (text, gzip.compress(text)):
        with pytest.raises(
            NotReadable, match=f"^the file looks like {what}; headrace takes JSON Lines: one JSON object a line"
        ):
            counted(packed, HEAD)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        JOB,
        JOB * 500,
        b"\xef\xbb\xbf" + JOB,
        b"nonsense\n" + JOB,
        b"a,b\n" + JOB,
        b"a,b\n",
        b"nonsense\n",
        b"[1]\n" + JOB,
        b"[1]\n",
        b"[]",
        b"{\n",
        b"{\n" + JOB,
        b"{\n{\n",
        b"[\n[\n",
        b'{\n"text"\n',
        b'{"prompt": \n' + JOB,
        b'"a, b"\n"c, d"\n',
        b"[" * 10_000,
        b'{"prompt": "' + b"a" * 10_000 + b'"}\n',
        b"\xff{}\n" + JOB,
    ],
)
def test_a_line_that_is_wrong_says_nothing_of_the_others(text: bytes):
    assert unlike_lines(text[:HEAD], whole=len(text) <= HEAD) is None


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_it_does_not_matter_in_which_chunks_it_comes(step: int):
    with pytest.raises(NotReadable, match="CSV"):
        counted(CSV, step)
