"""Chunks of a document along its structure: front matter, headings, paragraphs, sentences."""

import codecs
import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.attributes import AttributeKey, AttributeMap, AttributeValue
from headrace_workers.features.knowledge.documents import Document, Format, clean

# Front matter: the fields that Markdown files keep between two lines `---` at their beginning. They are YAML, read by
# its safe loader without aliases, of which a few lines could make gigabytes. A field that can be no attribute (a list,
# a map, nothing, a text that is too long) is passed over: front matter is written for other tools.

LONGEST: Final = 16_384  # bytes that are looked at
_MARK: Final = "---\n"
_CLOSE: Final = "\n---\n"


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """Attributes in order, the names of fields that can be none, and why all of it could not be read."""

    attributes: AttributeMap
    passed_over: tuple[str, ...] = ()
    trouble: str | None = None


NO_FRONT_MATTER: Final = FrontMatter({})


def behind(text: str) -> int:
    """Return the place after the front matter; 0 if there is none."""
    if text.startswith(_MARK) and (close := text.find(_CLOSE, len(_MARK) - 1)) >= 0:
        return close + len(_CLOSE)
    return 0


def read_front_matter(data: bytes) -> FrontMatter:
    """Return the front matter that a Markdown file in UTF-8 begins with."""
    head = data.removeprefix(codecs.BOM_UTF8)[: LONGEST + 1]
    if not head.startswith((b"---\n", b"---\r\n")):
        return NO_FRONT_MATTER
    text = clean(head[:LONGEST].decode("utf-8", "ignore"))
    end = behind(text)
    if not end:
        cut = len(head) > LONGEST
        return (
            FrontMatter({}, trouble=f"its front matter does not end within {LONGEST:,} bytes")
            if cut
            else NO_FRONT_MATTER
        )
    return _parsed(text[len(_MARK) : end - len(_CLOSE) + 1])


def _parsed(written: str) -> FrontMatter:
    from yaml import YAMLError, load

    try:
        fields = load(written, _loader())  # noqa: S506 - it is a SafeLoader
    except YAMLError as error:
        return FrontMatter({}, trouble=f"its front matter is no YAML: {_message_of(error)}")
    except (ValueError, RecursionError) as error:  # a day that there is not, a number of many digits, deep nesting
        return FrontMatter({}, trouble=f"its front matter cannot be read: {str(error)[:200]}")
    if not isinstance(fields, dict):
        return NO_FRONT_MATTER
    taken: dict[str, bool | int | float | str] = {}
    passed: list[str] = []
    for key, value in fields.items():
        try:
            taken[_KEY.validate_python(key)] = _VALUE.validate_python(_plain(value))
        except ValidationError:
            passed.append(str(key)[:64])
    return FrontMatter(taken, tuple(passed))


_KEY: Final[TypeAdapter[str]] = TypeAdapter(AttributeKey)
_VALUE: Final[TypeAdapter[bool | int | float | str]] = TypeAdapter(AttributeValue)


def _plain(value: object) -> object:
    """Days and times are texts, whose order is theirs."""
    return value.isoformat() if isinstance(value, date) else value


def _message_of(error: Exception) -> str:
    """Return what is wrong, and in which line of the file."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    where = "" if mark is None else f" in line {mark.line + 2}"
    return f"{problem or type(error).__name__}{where}"[:200]


@cache
def _loader() -> Any:
    """YAML's safe loader, without aliases."""
    from yaml import AliasEvent, SafeLoader
    from yaml.composer import ComposerError

    class NoAliases(SafeLoader):
        """Refuses them, and with them what they could be multiplied to."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(AliasEvent):
                raise ComposerError(None, None, "aliases (*) are not taken", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            return super().compose_node(parent, index)

    return NoAliases


# Positions of a text's headings, in Markdown or underlined. Linear in the text.

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_HASHES: Final = re.compile(r" {0,3}(#{1,6})(?=[ \t\n]|$)")
_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_LONGEST_UNDERLINE: Final = 500  # characters; a longer line is a rule or a table
_LONGEST_TITLE: Final = 120  # characters that are kept
_NO_TITLE: Final = ("#", ">", "- ", "* ", "+ ", "|", "`", "~")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading that takes up text[start:end], its line end included. Level 1 is the highest."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """text[start:end], its line end included. `fenced`: inside a fenced block of code, or its fence."""

    start: int
    end: int
    text: str
    fenced: bool

    @property
    def blank(self) -> bool:
        """Return True if it holds white space only."""
        return not self.text or self.text.isspace()


def lines(text: str, start: int = 0, end: int | None = None, *, fences: bool = True) -> Iterator[Line]:
    """Return the lines of text[start:end]; a fence that is not closed goes on to the end, as Markdown has it."""
    fence = ""
    for match in _LINE.finditer(text, start, len(text) if end is None else end):
        line = match[0]
        mark = _FENCE.match(line) if fences else None
        fenced = bool(fence or mark)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
            fence = ""
        yield Line(match.start(), match.end(), line, fenced)


def headings(text: str, form: Format) -> list[Heading]:
    """Return the headings in order."""
    match form:
        case Format.MARKDOWN:
            return list(_markdown(text))
        case Format.UNDERLINED:
            return list(_underlined(text))
        case Format.PLAIN:
            return []


def _markdown(text: str) -> Iterator[Heading]:
    before: tuple[Line | None, Line | None] = (None, None)  # the two lines before
    for line in lines(text, behind(text)):
        title = before[1]
        if not line.fenced and (hashes := _HASHES.match(line.text)):
            yield Heading(line.start, line.end, len(hashes[1]), _title(line.text[hashes.end() :].strip().rstrip("#")))
        elif title is not None and _may_be_title(title) and (before[0] is None or before[0].blank):
            rule = line.text.strip()
            if _repeats(rule) in {"=", "-"} and not line.fenced:
                yield Heading(title.start, line.end, 1 if rule[0] == "=" else 2, _title(title.text))
        before = (title, line)


def _may_be_title(line: Line) -> bool:
    return not (line.blank or line.fenced or line.text.startswith((" " * 4, "\t", *_NO_TITLE)))


def _underlined(text: str) -> Iterator[Heading]:
    styles: list[tuple[str, bool]] = []  # in the order of their first use: the first is the highest
    before: tuple[Line | None, Line | None] = (None, None)
    for line in lines(text, fences=False):
        over, title = before
        mark = _repeats(line.text.strip())
        if mark and title is not None and not title.blank and not _repeats(title.text.strip()):
            framed = over is not None and _repeats(over.text.strip()) == mark
            first = over is None or over.blank
            long_enough = len(line.text.rstrip()) >= min(len(title.text.strip()), _LONGEST_UNDERLINE)
            if long_enough and (framed or (first and not title.text[0].isspace())):
                if (mark, framed) not in styles:
                    styles.append((mark, framed))
                start = over.start if framed and over is not None else title.start
                yield Heading(start, line.end, styles.index((mark, framed)) + 1, _title(title.text))
        before = (title, line)


def _repeats(rule: str) -> str:
    """Return the punctuation mark that alone makes up the rule, two times or more; else nothing."""
    if 2 <= len(rule) <= _LONGEST_UNDERLINE and rule[0] in _PUNCTUATION and rule == rule[0] * len(rule):
        return rule[0]
    return ""


def _title(words: str) -> str:
    return " ".join(words[: 4 * _LONGEST_TITLE].split())[:_LONGEST_TITLE]


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

    `section` is the headings above it, the highest first (`Guide > Install`), then the page that it begins on.
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
    for index in range(at, min(end, at + 8)):
        if not unicodedata.combining(text[index]):
            return index
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
    """Return the start of the line, after the form feed that ends the page before; its indentation is part of it."""
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
