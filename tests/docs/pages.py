"""The pages of the documentation, and what is in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

_FENCE: Final = re.compile(r"^( *)(```+|~~~+)(.*?)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?:\A|\n\n)((?:(?: {4}.*)?\n)*(?: {4}.*)(?:\n|\Z))")
_INLINE: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)


class Block(NamedTuple):
    """A block of code; `marks` are the words of the comment before it: `<!-- run -->`."""

    language: str
    text: str
    marks: frozenset[str]


def pages() -> list[str]:
    """Return the paths of all pages, from the root of the repository."""
    top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
    return [*top, *sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))]


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of code of a page: fenced ones, then indented ones, which have no language."""
    for match in _FENCE.finditer(text):
        before = re.search(r"<!-- ([a-z ]+) -->\s*\Z", text[: match.start()])
        marks = frozenset(before[1].split() if before else ())
        yield Block(match[3].strip().partition(" ")[0], match[4], marks)
    for match in _INDENTED.finditer(_FENCE.sub("", text)):
        yield Block("", re.sub(r"^ {4}", "", match[1], flags=re.MULTILINE), frozenset())


def inline_code(text: str) -> Iterator[str]:
    """Yield the code within lines of prose."""
    yield from (re.sub(r"\s+", " ", found[2]) for found in _INLINE.finditer(prose(text)))


def prose(text: str) -> str:
    """Return a page without its blocks of code and comments."""
    return _COMMENT.sub("", _INDENTED.sub("\n\n", _FENCE.sub("", text)))


def links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead."""
    plain = _INLINE.sub("", prose(text))
    return re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", plain) + re.findall(r"(?:src|href)=\"([^\"]+)\"", plain)


def anchors(text: str) -> list[str]:
    """Return the anchors of a page's headings, as MkDocs derives them."""
    found = re.findall(r"^#{1,6} +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE)
    return [_slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in found]


def _slug(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", heading.replace("*", "")).strip().lower()
    return re.sub(r"[\s-]+", "-", plain)
