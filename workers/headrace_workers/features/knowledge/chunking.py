"""Cuts a document into chunks along its structure: sections, then paragraphs, lines, sentences, words.

Every character that is not white space is in exactly one chunk, and a chunk never crosses a heading of its own section.
The same document gives the same chunks, and a chunk keeps its id while its words and its section stay as they are,
wherever it moves to. Pure.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from headrace_workers.features.knowledge.documents import Document, Format
from headrace_workers.features.knowledge.outline import Line, headings, lines

SIZE: Final = 250  # tokens of a chunk, about
SEPARATOR: Final = " > "

CountTokens = Callable[[str], int]
Span = tuple[int, int]

_WORDS_END: Final = re.compile(r"\s+")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]{0,4}\s+|(?<=[。！？])")
_CHARACTERS_A_TOKEN: Final = 4  # a word longer than so many for each token is cut first: tokenizers are slow on such
_COUNTED: Final = 32  # characters for each token: what has words, and more than so many, is cut first


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document: `text` is the document's text[span[0]:span[1]].

    `section` is the headings above it, the highest first: `Guide > Install`; and where form feeds part
    pages, the page that it begins on: `page 7`. Empty where there are none.
    """

    id: str
    document: str
    section: str
    span: Span
    text: str

    @property
    def indexed(self) -> str:
        """Return the text to index: the chunk below its headings."""
        return f"{self.section}\n{self.text}" if self.section else self.text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch that is not cut further, and its tokens."""

    start: int
    end: int
    tokens: int


def chunk(document: Document, count_tokens: CountTokens, size: int = SIZE) -> list[Chunk]:
    """Return the document's chunks in order, each of at most about `size` tokens, as `count_tokens` counts them.

    A chunk's count is that of its pieces, added up; a tokenizer that sees it whole may differ by a few.
    """
    if size < 1:
        raise ValueError(f"chunks of {size} tokens cannot be made: the size is 1 or more")
    seen: Counter[tuple[str, str]] = Counter()
    chunks = []
    page_ends = [match.start() for match in re.finditer("\f", document.text)]
    for headed, start, end in _sections(document.text, document.format):
        pieces = list(_pieces(document.text, (start, end), document.format, count_tokens, size))
        for span in _packed(pieces, size):
            text = document.text[slice(*span)]
            page = [f"page {bisect_left(page_ends, span[0]) + 1}"] if page_ends else []
            section = SEPARATOR.join(filter(None, [headed, *page]))
            seen[section, text] += 1
            chunks.append(
                Chunk(_id(document.name, section, text, seen[section, text]), document.name, section, span, text)
            )
    return chunks


def _id(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def _sections(text: str, form: Format) -> Iterator[tuple[str, int, int]]:
    """Return each section's path and place. A heading with only further headings below it goes with the first."""
    path: list[tuple[int, str]] = []
    start, body = 0, 0
    for heading in headings(text, form):
        if not _blank(text, body, heading.start) or (path and heading.level <= path[-1][0]):
            yield _section(path), start, heading.start
            start = heading.start
        path = [above for above in path if above[0] < heading.level] + [(heading.level, heading.title)]
        body = heading.end
    yield _section(path), start, len(text)


def _section(path: Iterable[tuple[int, str]]) -> str:
    return SEPARATOR.join(title for _, title in path if title)


def _blank(text: str, start: int, end: int) -> bool:
    return not text[start:end].strip()


def _packed(pieces: list[_Piece], size: int) -> Iterator[Span]:
    """Neighbours put together: no more than `size` tokens, and evenly, so that the last chunk is no scrap."""
    total = sum(piece.tokens for piece in pieces)
    aim = total / max(1, -(-total // size))
    held: list[_Piece] = []
    tokens = 0
    for piece in pieces:
        if held and (tokens >= aim or tokens + piece.tokens > size):
            yield held[0].start, held[-1].end
            held, tokens = [], 0
        held.append(piece)
        tokens += piece.tokens
    if held:
        yield held[0].start, held[-1].end


def _pieces(text: str, span: Span, form: Format, count: CountTokens, size: int) -> Iterator[_Piece]:
    """Paragraphs, or where one is too long its lines, or their sentences, words, parts of words."""
    for block in _blocks(text, span, form):
        yield from _cut(text, block, (_lines, _sentences, _words), count, size)


def _cut(
    text: str, span: Span, finer: tuple[Callable[[str, Span], Iterator[Span]], ...], count: CountTokens, size: int
) -> Iterator[_Piece]:
    start, end = span
    # A text with far too many characters is not counted: it is too long anyway, and counting would take long.
    short = end - start <= size * (_COUNTED if finer else _CHARACTERS_A_TOKEN)
    if short and (tokens := count(text[start:end])) <= size:
        yield _Piece(start, end, tokens)
    elif finer:
        for inner in finer[0](text, span):
            yield from _cut(text, inner, finer[1:], count, size)
    else:
        yield from _parts_of_word(text, span, count, size)


def _parts_of_word(text: str, span: Span, count: CountTokens, size: int) -> Iterator[_Piece]:
    start, end = span
    while start < end:
        stop = min(end, start + size * _CHARACTERS_A_TOKEN)
        while (tokens := count(text[start:stop])) > size and stop - start > 1:
            stop = start + (stop - start) // 2
        stop = _between_characters(text, stop, end)
        yield _Piece(start, stop, tokens)
        start = stop


def _between_characters(text: str, at: int, end: int) -> int:
    """Return the next place from `at` on, within a few, that does not part a letter from its accents."""
    for place in range(at, min(end, at + 8)):
        if not unicodedata.combining(text[place]):
            return place
    return at


def _blocks(text: str, span: Span, form: Format) -> Iterator[Span]:
    """Paragraphs, between empty lines; in Markdown a fenced block of code is one, whatever lines it holds."""
    start = end = -1
    for line in lines(text, *span, fences=form is Format.MARKDOWN):
        if line.blank and not line.fenced:
            if start >= 0:
                yield start, end
            start = -1
        elif not line.blank:
            start = _begin(line) if start < 0 else start
            end = line.start + len(line.text.rstrip())
    if start >= 0:
        yield start, end


def _lines(text: str, span: Span) -> Iterator[Span]:
    for line in lines(text, *span, fences=False):
        if not line.blank:
            yield _begin(line), line.start + len(line.text.rstrip())


def _begin(line: Line) -> int:
    """Return the start of the line, behind the form feed that ends the page before; its indentation is part of it."""
    return line.end - len(line.text.lstrip("\f"))


def _sentences(text: str, span: Span) -> Iterator[Span]:
    return _parted(text, span, _SENTENCE_END)


def _words(text: str, span: Span) -> Iterator[Span]:
    return _parted(text, span, _WORDS_END)


def _parted(text: str, span: Span, mark: re.Pattern[str]) -> Iterator[Span]:
    """Return the stretches between the marks' white space; a mark's other characters stay with what is before them."""
    start, end = span
    for match in mark.finditer(text, start, end):
        stop = match.start() + len(match[0].rstrip())
        if start < stop:
            yield start, stop
        start = match.end()
    if start < end:
        yield start, end
