"""From files to documents: what is in which format, and what is refused."""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from headrace_workers.features.knowledge.conversion import Converter
from headrace_workers.features.knowledge.decoding import clean, decoded
from headrace_workers.features.knowledge.documents import Document, DocumentRefused, Format
from headrace_workers.features.knowledge.markitdown import CONVERTERS

SIZE_LIMIT: Final = 50_000_000  # bytes
TIME_LIMIT: Final = 300.0  # seconds: two hundred pages a minute are usual for a PDF

MARKDOWN: Final = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx"})
_HTML: Final = frozenset({".html", ".htm", ".xhtml"})
_COMPOUND: Final = bytes.fromhex("d0cf11e0a1b11ae1")  # an encrypted Office file is one, and so is an old one
_UNDERLINED: Final = frozenset({".rst", ".rest", ".txt", ".text"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file's bytes. `name` is its document's; `suffix` is in small letters. `sha256` is enough to know it again."""

    name: str
    suffix: str
    data: bytes
    sha256: str


def load(path: Path, name: str, size_limit: int = SIZE_LIMIT) -> Loaded:
    """Read the file; DocumentRefused for what is no file, cannot be opened, is empty or too large."""
    try:
        # A pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DocumentRefused(f"{path}: it is no regular file")
            data = file.read(size_limit + 1)
    except OSError as error:
        why = "it is no regular file" if error.errno in {errno.ENXIO, errno.EISDIR} else error.strerror or error
        raise DocumentRefused(f"{path}: {why}") from error
    if not data:
        raise DocumentRefused(f"{path}: it is empty")
    if len(data) > size_limit:
        raise DocumentRefused(f"{path}: it has more than {size_limit:,} bytes: part it")
    return Loaded(name, path.suffix.lower(), data, hashlib.sha256(data).hexdigest())


class Reader:
    """Turns what was loaded into documents. Thread-safe. Close it, or use it as a context."""

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        """`time_limit` is in seconds, for each document that must be converted."""
        self._converter = Converter(time_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that converts, if it was started."""
        self._converter.close()

    def read(self, loaded: Loaded) -> Document:
        """Return the document. Raise DocumentRefused, which names it and says why it cannot become text."""
        try:
            text = self._text(loaded)
            if not text.strip():
                raise DocumentRefused(_no_text(loaded.suffix))
        except DocumentRefused as refused:
            raise DocumentRefused(f"{loaded.name}: {refused}") from refused
        return Document(loaded.name, text, loaded.sha256, format_of(loaded.suffix))

    def _text(self, loaded: Loaded) -> str:
        if loaded.data.startswith(_COMPOUND):
            raise DocumentRefused("it is encrypted, or of an Office from before 2007: save it anew without a password")
        if loaded.suffix in _HTML:
            return clean(self._converter.convert(loaded.data, ".html"))
        if loaded.suffix in CONVERTERS:
            return clean(self._converter.convert(loaded.data, loaded.suffix))
        return decoded(loaded.data)


def format_of(suffix: str) -> Format:
    """Return how documents of the suffix mark their headings; an unknown suffix is plain text, such as source code."""
    if suffix in MARKDOWN or suffix in _HTML or suffix in CONVERTERS:
        return Format.MARKDOWN
    return Format.UNDERLINED if suffix in _UNDERLINED else Format.PLAIN


def _no_text(suffix: str) -> str:
    if suffix == ".pdf":
        return "it holds no text: pages that were scanned need text recognition (OCR) first"
    return "it holds no text"
