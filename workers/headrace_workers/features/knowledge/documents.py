"""A document as text, whatever file it came from, and the way from its bytes to characters."""

import codecs
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from headrace_schemas import Category, HeadraceError


class Format(StrEnum):
    """The markup of a document's headings."""

    MARKDOWN = "markdown"  # also what HTML, PDF and Office files become
    UNDERLINED = "underlined"  # reStructuredText, and plain text that underlines its titles
    PLAIN = "plain"  # not at all: source code, logs, tables


@dataclass(frozen=True, slots=True)
class Document:
    """A document's whole text. `name` is what citations call it; `sha256` is that of the file's bytes, in hex."""

    name: str
    text: str
    sha256: str
    format: Format


class DocumentRefused(HeadraceError):
    """A file that cannot become text; the message names the file, the reason and what to do."""

    category: ClassVar[Category] = Category.INVALID


_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_HEAD: Final = 2_048  # bytes in which a page says its encoding


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """The text, its line ends `\\n`; DocumentRefused with the reason alone for what is no text."""
    for mark, named in _MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], named
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentRefused(
            f"it is no text in {encoding.upper()} (byte {error.start + 1}): a binary file is not taken, and text in "
            "another encoding must be converted first, as with iconv"
        ) from error
    if (place := text.find("\0")) >= 0:
        raise DocumentRefused(f"it is a binary file, whatever its name: character {place + 1} is a NUL")
    return clean(text)


def decoded_html(data: bytes) -> str:
    """Return the same for a page of HTML, which may name another encoding."""
    named = _CHARSET.search(data[:_HEAD])
    encoding = "utf-8"
    if named:
        try:
            encoding = codecs.lookup(named[1].decode()).name
            "".encode(encoding)  # some codecs are not of text
        except (LookupError, TypeError):
            encoding = "utf-8"
    return decoded(data, encoding)


def clean(text: str) -> str:
    """Return the text as a database takes it: no NUL, no half of a surrogate pair, line ends `\\n`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "replace").decode()
