"""Positions of a text's headings, in Markdown or underlined. Linear in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace_workers.features.knowledge import front_matter
from headrace_workers.features.knowledge.documents import Format

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
    for line in lines(text, front_matter.behind(text)):
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
