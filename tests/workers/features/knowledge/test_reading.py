import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.features.knowledge.counting import count_tokens
from tests.workers.features.knowledge.pdfs import pdf

from headrace_workers.features.knowledge.chunking import chunk
from headrace_workers.features.knowledge.documents import Document, DocumentRefused, Format
from headrace_workers.features.knowledge.reading import Reader, load

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as made:
        yield made


def read(reader: Reader, tmp_path: Path, name: str, data: bytes) -> Document:
    path = tmp_path / name
    path.write_bytes(data)
    return reader.read(load(path, name))


def docx(paragraphs: str) -> bytes:
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    types = "http://schemas.openxmlformats.org/package/2006"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{types}/content-types"><Default Extension="xml" ContentType="application/vnd.openxmlformats'
            '-officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{types}/relationships"><Relationship Id="r" Target="word/document.xml" Type="http://'
            'schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{main}"><w:body>{paragraphs}</w:body></w:document>'
        )
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.md", b"# One\r\ntext\r", Format.MARKDOWN),
        ("a.MD", b"\xef\xbb\xbf# One\ntext\n", Format.MARKDOWN),
        ("a.txt", b"# One\ntext\n", Format.UNDERLINED),
        ("a.rst", "# One\ntext\n".encode("utf-16"), Format.UNDERLINED),
        ("a.py", b"# One\ntext\n", Format.PLAIN),
        ("README", b"# One\ntext\n", Format.PLAIN),
    ],
)
def test_text_is_taken_as_it_is(reader: Reader, tmp_path: Path, name: str, data: bytes, form: Format) -> None:
    assert read(reader, tmp_path, name, data) == Document(name, "# One\ntext\n", hashlib.sha256(data).hexdigest(), form)


def test_html_becomes_markdown(reader: Reader, tmp_path: Path) -> None:
    page = '<html><head><meta charset="latin-1"><title>T</title></head><h1>Café</h1><p>text</html>'
    document = read(reader, tmp_path, "a.html", page.encode("latin-1"))
    assert (document.text, document.format) == ("# Café\n\ntext", Format.MARKDOWN)


def test_a_pdf_keeps_its_pages(reader: Reader, tmp_path: Path) -> None:
    words = " ".join(["word"] * 10)
    document = read(reader, tmp_path, "book.pdf", pdf([f"Number {n} {words}" for n in range(1, 301)]))
    chunks = chunk(document, count_tokens, size=20)
    assert [item.section for item in chunks] == [f"page {n}" for n in range(1, 301)]
    assert chunks[122].text.startswith("Number 123 word")


def test_a_word_document_keeps_its_headings(reader: Reader, tmp_path: Path) -> None:
    heading = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>One</w:t></w:r></w:p>'
    document = read(reader, tmp_path, "a.docx", docx(heading + "<w:p><w:r><w:t>text</w:t></w:r></w:p>"))
    (only,) = chunk(document, count_tokens)
    assert (only.section, only.text) == ("One", "# One\n\ntext")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.md", b"", "it is empty"),
        ("white.md", b" \n\t\n", "it holds no text"),
        ("page.html", b"<script>x</script>", "it holds no text"),
        ("scan.pdf", pdf(["", ""]), "it holds no text: pages that were scanned need text recognition"),
        ("secret.pdf", pdf(["text"], password="open sesame"), "it is encrypted"),
        ("broken.pdf", pdf(["text"])[:200], "it cannot be read as .pdf"),
        ("no.pdf", b"text", "it cannot be read as .pdf"),
        ("no.docx", b"text", "it cannot be read as .docx"),
        ("secret.docx", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "it is encrypted"),
        ("old.doc", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "or of an Office from before 2007"),
        ("binary.txt", b"text\0text", "it is a binary file, whatever its name: character 5 is a NUL"),
        ("binary.txt", b"\x89PNG\r\n\x1a\n", "it is no text in UTF-8 (byte 1)"),
        ("latin.txt", "Café".encode("latin-1"), "it is no text in UTF-8 (byte 4)"),
        ("half.txt", b"\xff\xfea", "it is no text in UTF-16-LE"),
        ("noise", os.urandom(4_096) + b"\xff", "it is no text in UTF-8"),
    ],
)
def test_what_is_no_document_is_refused(reader: Reader, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(DocumentRefused) as refused:
        read(reader, tmp_path, name, data)
    assert name in str(refused.value)
    assert reason in str(refused.value)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"a" * 1_001)
    assert len(load(path, "large.txt", 1_001).data) == 1_001
    with pytest.raises(DocumentRefused, match=r"large\.txt: it has more than 1,000 bytes"):
        load(path, "large.txt", 1_000)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "no regular file"), ("", "no regular file"), ("gone", "No such file")):
        with pytest.raises(DocumentRefused, match=reason):
            load(tmp_path / name, name)
