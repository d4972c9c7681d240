"""The form of a question: lines, brackets, operators, formulas, options, and the case of short words."""

import re
from typing import Final, NamedTuple

from headrace_workers.features.cache.guards.measures import UNITS
from headrace_workers.features.cache.guards.profile import Profile, read_once
from headrace_workers.features.cache.guards.small_words import EMPTY_OR_SMALL
from headrace_workers.features.cache.guards.word_lists import words_of

# A formula is all operators, brackets, numbers and single letters in order, where one is an operator or a bracket.
_SIGN: Final = re.compile(
    r"[()\[\]{}<>=*+^|\\~±×÷≤≥≠√∑∫→]|(?<=[\w)\]] )[-−/](?= ?[\w(\[])|(?<=[\d)\]])[-−/](?![A-Za-z]{2})|[-−](?=\d)"
)
_PART: Final = re.compile(_SIGN.pattern + r"|\d+(?:[.,]\d+)*|(?<![\w'’])[A-Za-z](?![\w'’])")
# `A) red B) blue`, `1. red 2. blue`, `(i) red (ii) blue`: two labels or more.
_LABEL: Final = re.compile(r"(?:(?<=\s)|^)\(?(?:[A-Ha-h]|\d|[ivx]{1,4})[).:](?=\s)")
_COLUMNS: Final = re.compile(r"(?: {2,}|\t)\S")  # in a line: code, a table, a drawing
_SHORT: Final = 3  # letters
# Two spellings of each of these are two units or two things.
_SYMBOLS: Final = words_of("mw mv mj mhz ma mm mb kb pa nm na no co cs ph")


class _Form(NamedTuple):
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    signs: tuple[str, ...]
    options: str


class Form:
    """Refuses another order of lines, options, operators and brackets, and another case of a short word.

    Questions of several lines must have the same lines but for one, which the other guards compare. Lines with indents
    or columns count space by space.
    """

    name = "form"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both have the same form."""
        ours, theirs = form(asked), form(cached)
        if ours != theirs:
            if not _same_lines(ours.lines, theirs.lines) or ours.columns != theirs.columns:
                return "its lines are not those of the question that was answered"
            if ours.options != theirs.options:
                return "its options are not those of the question that was answered"
            if ours.signs != theirs.signs:
                return "its brackets, operators or figures are not those of the question that was answered"
        mine, yours = _cases(asked), _cases(cached)
        if mine == yours:
            return None
        for word in mine.keys() & yours.keys():
            if mine[word] != yours[word] and not _is_one_word(word, mine[word] | yours[word]):
                written, other = " and ".join(sorted(mine[word])), " and ".join(sorted(yours[word]))
                return f"writes {written}; the answer is for {other}"
        return None


@read_once
def form(read: Profile) -> _Form:
    """Return the form of a question."""
    lines = tuple([line for each in read.text.splitlines() if (line := " ".join(each.casefold().split()))])
    columns = (
        tuple([each.rstrip() for each in read.text.split("\n") if _COLUMNS.search(each)]) if "\n" in read.text else ()
    )
    text = " ".join(lines)
    signs = tuple(_PART.findall(text)) if _SIGN.search(text) else ()
    labels = list(_LABEL.finditer(text))
    return _Form(lines if len(lines) > 1 else (), columns, signs, text[labels[0].start() :] if len(labels) > 1 else "")


def _same_lines(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return len(ours) == len(theirs) and sum(one != other for one, other in zip(ours, theirs, strict=True)) <= 1


@read_once
def _cases(read: Profile) -> dict[str, set[str]]:
    """Return the spellings of each word of at most three letters. A capital at the head of a sentence says nothing, nor
    does that of `I` outside formulas.
    """
    found: dict[str, set[str]] = {}
    prose = not form(read).signs
    for token in read.tokens:
        word = token.text
        if word.isalpha() and len(word) <= _SHORT and token.kind in {"word", "unit"}:
            if prose and token.key == "i":
                continue
            starts = token.starts and word[1:] == word[1:].lower()
            found.setdefault(word.lower(), set()).add(word.lower() if starts else word)
    return found


def _is_one_word(word: str, written: set[str]) -> bool:
    """Return True if a word means the same in these spellings: `PDF` and `pdf`, but not `IT`, `it` and `MW`, `mW`.

    A unit and a single letter have one spelling.
    """
    if len(word) == 1 or word in UNITS or word in _SYMBOLS:
        return False
    if word in EMPTY_OR_SMALL:
        return written <= {word, word.capitalize()}
    return written <= {word, word.capitalize(), word.upper()}
