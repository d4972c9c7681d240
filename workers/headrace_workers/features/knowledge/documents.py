"""A document as text, whatever file it came from, and the error for what is no document."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

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
