"""The program that turns HTML, PDF and Office files into text: documents in at stdin, texts out at stdout.

A document is a line of JSON with its suffix and size, and then its bytes; an answer is a line of JSON with a text or a
reason for none. It may hang, crash, or want all memory, which a stranger's document can bring about in any such
library: so it is a process that its parent can end, and it may take so much memory and no more.
"""

import contextlib
import io
import json
import os
import re
import sys
from html.parser import HTMLParser
from typing import BinaryIO, Final

from headrace_workers.features.knowledge.documents import DocumentRefused, decoded_html

_UNSEEN: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "head", "nav", "footer", "button", "select", "iframe", "object"}
)
_VOID: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset"}
    | {"figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "legend", "li", "main", "ol"}
    | {"p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"}
)
_HEADING: Final = {f"h{level}": level for level in range(1, 7)}
_HIDING: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity)\s*:\s*0(?![.\d])", re.I)
_SPACE: Final = re.compile(r"\s+")
_MARKDOWN: Final = re.compile(r"#{1,6}(?:\s|$)|`{3}|~{3}")


def html_to_markdown(html: str) -> str:
    """Return the page's text. Blocks are parted by empty lines; broken HTML gives what can be made of it."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[str] = []
        self._words: list[str] = []
        self._prefix = ""
        self._verbatim = 0  # open <pre>
        self._unseen: list[str] = []  # the element that is not shown, once for each of its name open within
        self._main: tuple[str, int] | None = None  # the main part's element, and how many of its name are open
        self._mains: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            # A paragraph ends where another block begins, whether its end is written or not.
            if self._unseen[0] != "p" or tag not in _BLOCKS:
                self._unseen += [tag] if tag == self._unseen[0] else []
                return
            self._unseen.clear()
        if tag in _BLOCKS or tag == "br":
            self._end_block()
        if tag not in _VOID and _is_unseen(tag, dict(attrs)):
            self._unseen.append(tag)
            return
        if self._main is not None:
            self._main = (tag, self._main[1] + 1) if tag == self._main[0] else self._main
        elif tag == "main" or ("role", "main") in attrs:
            self._main = (tag, 1)
        if tag == "pre":
            self._verbatim += 1
        elif tag == "li":
            self._prefix = "- "
        elif tag in _HEADING:
            self._prefix = "#" * _HEADING[tag] + " "

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.pop()
            return
        if tag in _BLOCKS:
            self._end_block()
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)
        if self._main is not None and tag == self._main[0]:
            self._main = (tag, self._main[1] - 1) if self._main[1] > 1 else None

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._words.append(data)

    def close(self) -> None:
        super().close()
        self._end_block()

    def text(self) -> str:
        """Return the blocks of the main part, or of the whole if none is named or nothing is in it."""
        return "\n\n".join(self._mains or self._blocks)

    def _end_block(self) -> None:
        raw, prefix = "".join(self._words), self._prefix
        self._words.clear()
        if self._verbatim:
            block = _fenced(raw.strip("\n").rstrip()) if raw.strip() else ""
        else:
            block = _SPACE.sub(" ", raw).strip()
            block = block.removesuffix("¶").rstrip() if prefix.startswith("#") or block.endswith(")¶") else block
            block = prefix + (f"\\{block}" if _MARKDOWN.match(block) else block) if block else ""
        if block:
            self._prefix = ""
            (self._mains if self._main else self._blocks).append(block)


def _is_unseen(tag: str, attrs: dict[str, str | None]) -> bool:
    return (
        tag in _UNSEEN
        or "hidden" in attrs
        or attrs.get("aria-hidden") == "true"
        or attrs.get("role") in {"navigation", "search"}
        or bool(_HIDING.search(attrs.get("style") or ""))
    )


def _fenced(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{code}\n{fence}"


CONVERTERS: Final = {
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
    ".xlsx": "XlsxConverter",
    ".epub": "EpubConverter",
    ".ipynb": "IpynbConverter",
}


def office_to_markdown(data: bytes, suffix: str) -> str:
    """Return the document's text. Raise DocumentRefused with the reason alone if there is none.

    The pages of a PDF are parted by form feeds, unless there are tables in it. All other errors of its libraries
    concern this file.
    """
    try:
        from markitdown import MissingDependencyException, StreamInfo, converters
    except ImportError as error:
        raise DocumentRefused(
            f"{suffix} files are read by markitdown, which is not installed: pip install 'headrace[knowledge]'"
        ) from error
    try:
        if suffix == ".pdf":
            _open(data)
        converter = getattr(converters, CONVERTERS[suffix])()
        return str(converter.convert(io.BytesIO(data), StreamInfo(extension=suffix, charset="utf-8")).markdown)
    except (MissingDependencyException, ImportError) as error:
        raise DocumentRefused(
            f"{suffix} files need more of markitdown: pip install 'markitdown[{suffix.removeprefix('.')}]'"
        ) from error


def _open(data: bytes) -> None:
    """DocumentRefused for a PDF that needs a password: markitdown does not tell it from a broken one."""
    from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError
    from pdfminer.pdfparser import PDFParser

    try:
        PDFDocument(PDFParser(io.BytesIO(data)))
    except PDFEncryptionError as error:
        raise DocumentRefused("it is encrypted: save it anew without a password") from error


def main() -> None:
    """Answer until stdin ends."""
    _limit_memory(int(sys.argv[1]))
    # Output of libraries goes to stderr, not between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        answer = _answer(request["suffix"], sys.stdin.buffer, request["size"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(suffix: str, source: BinaryIO, size: int) -> dict[str, str]:
    data = source.read(size)
    try:
        if suffix == ".html":
            return {"text": html_to_markdown(decoded_html(data))}
        return {"text": office_to_markdown(data, suffix)}
    except DocumentRefused as refused:
        return {"refused": str(refused)}
    except MemoryError:
        return {"refused": "it takes too much memory to read"}
    except Exception as error:  # whatever a stranger's file makes a library raise
        return {"refused": f"it cannot be read as {suffix} ({type(error).__name__}): is it whole?"}


def _limit_memory(size: int) -> None:
    # macOS and Windows know no such limit.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


if __name__ == "__main__":
    main()
