"""Rewrites of a question's tokens: numbers in words, units, dates, and phrases that say what one word says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace_workers.text.tokens import Token, value
from headrace_workers.text.words import lines_of, stem, words_of

_ONES: Final = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS: Final = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_SCALES: Final = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 1_000_000,
    "billion": 1_000_000_000,
    "trillion": 1_000_000_000_000,
}
_ORDINALS: Final = {
    word: number
    for number, word in enumerate(
        ["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"], start=3
    )
} | {"twentieth": 20, "thirtieth": 30, "hundredth": 100, "thousandth": 1_000}
_OTHER: Final = {"dozen": 12, "twice": 2, "thrice": 3, "once": 1, "double": 2, "triple": 3, "pair": 2}
NUMERALS: Final = frozenset(
    {"second", *_ONES, *_TENS, *_SCALES, *_ORDINALS, *_OTHER}
)  # words that a number begins with
_PRONOUN_AFTER: Final = words_of(
    """which the this that no any every some do does can should would could each another other if how when"""
)


def numerals(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with number words as numbers; a scale after a figure multiplies it."""
    if NUMERALS.isdisjoint([token.text.lower() for token in found]):
        return tuple(found)
    out: list[Token] = []
    at = 0
    while at < len(found):
        size, number = _number(found, at)
        if size:
            words = " ".join(token.text for token in found[at : at + size])
            out.append(Token(words, value(number), "number", False, found[at].starts))
            at += size
        else:
            out.append(found[at])
            at += 1
    return tuple(out)


def _number(found: Sequence[Token], at: int) -> tuple[int, str]:
    """Return how many tokens from here make a number, and the number; 0 tokens if no number starts here."""
    if found[at].kind == "number":
        scale = _SCALES.get(found[at + 1].text.lower()) if at + 1 < len(found) else None
        return (2, _times(found[at].key, scale)) if scale else (0, "")
    first = found[at].text.lower()
    if found[at].kind != "word" or first not in NUMERALS:
        return 0, ""
    before = found[at - 1].text.lower() if at else ""
    if first == "one" and (before in _PRONOUN_AFTER or not _counted(found, at)):
        return 0, ""
    if first in _OTHER or first in _ORDINALS:
        return 1, str(_OTHER.get(first) or _ORDINALS[first])
    if first == "second" and before in {"the", "my", "a", "'s"} and at + 1 < len(found):
        return 1, "2"
    return _cardinal(found, at)


def _counted(found: Sequence[Token], at: int) -> bool:
    """Return True if `one` counts: before a word that may be counted, and not in `one of` or `one should`."""
    return at + 1 < len(found) and found[at + 1].text.lower() not in {
        "of",
        "should",
        "can",
        "must",
        "is",
        "who",
        "that",
    }


def _cardinal(found: Sequence[Token], at: int) -> tuple[int, str]:
    total = current = size = 0
    while at + size < len(found) and found[at + size].kind == "word":
        word = found[at + size].text.lower()
        if word in _ONES and (current % 10 == 0 or size == 0) and (_ONES[word] < 10 or current % 100 == 0):
            current += _ONES[word]
        elif word in _TENS and current % 100 == 0:
            current += _TENS[word]
        elif word in _ORDINALS and size and current % 10 == 0:
            return size + 1, str(total + current + _ORDINALS[word])
        elif word == "hundred":
            current = (current or 1) * 100
        elif word in _SCALES:
            total, current = total + (current or 1) * _SCALES[word], 0
        elif not (word == "and" and size and _continues(found, at + size)):
            break
        size += 1
    return size, str(total + current)


def _continues(found: Sequence[Token], at: int) -> bool:
    """Return True if the number continues: `two hundred and five` is one number; `five and six` are two."""
    before, after = found[at - 1].text.lower(), found[at + 1].text.lower() if at + 1 < len(found) else ""
    return before in _SCALES and (after in _ONES or after in _TENS)


def _times(key: str, scale: int) -> str:
    try:
        return f"{float(key) * scale:.6f}".rstrip("0").rstrip(".") if len(key) < 15 else f"{key}e{scale}"
    except ValueError:
        return f"{key}e{scale}"


_UNITS: Final = {
    form: names[0]
    for line in lines_of("units")
    for names in [line.split()]
    for name in names
    for form in (name, stem(name))
}
UNITS: Final = frozenset(_UNITS)
_ONLY_AFTER_FIGURES: Final = words_of(
    """m g l second minute hour day week month year decade century mm stone cup bit ton foot quarter degree
    pint"""
)
_BEFORE_UNITS: Final = frozenset({"many", "much", "in"})


def measures(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with units as unit tokens.

    A unit's name that is also a word counts after a figure, `how many` or `in` only.
    """
    if UNITS.isdisjoint([token.key for token in found]):
        return tuple(found)
    out: list[Token] = []
    for token in found:
        named = _UNITS.get(token.key) if token.kind in {"word", "literal", "symbol"} and not token.name else None
        figure = bool(out) and (out[-1].kind == "number" or (out[-1].key in _BEFORE_UNITS and token.text.endswith("s")))
        if named and (figure or named not in _ONLY_AFTER_FIGURES):
            out.append(token._replace(key=named, kind="unit"))
        else:
            out.append(token)
    return tuple(out)


_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sept sep",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
_ALSO_WORDS: Final = frozenset({"may", "march", "mar", "jan", "jun", "sep", "dec"})
_WEEKDAYS: Final = {
    form: day
    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    for form in (day, day + "s")
}
_RELATIVE: Final = words_of(
    """yesterday tomorrow tonight noon midnight weekday weekend spring summer autumn winter morning afternoon
    evening night daily weekly monthly yearly annually hourly"""
)

DATES: Final = _RELATIVE.union(_WEEKDAYS, _MONTHS)


def dates(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with days, months and dates as date tokens."""
    if DATES.isdisjoint([token.text.lower() for token in found]) and _RELATIVE.isdisjoint([t.key for t in found]):
        return tuple(found)
    out: list[Token] = []
    at = 0
    while at < len(found):
        token = found[at]
        word = token.text.lower()
        if token.kind == "word" and word in _WEEKDAYS:
            out.append(Token(token.text, _WEEKDAYS[word], "date", False, token.starts))
        elif token.kind == "word" and (word in _RELATIVE or token.key in _RELATIVE):  # `per day` is read as `daily`
            out.append(Token(token.text, token.key, "date", False, token.starts))
        elif token.kind == "word" and word in _MONTHS and _is_month(found, at):
            at += _append_month(out, found, at)
        else:
            out.append(token)
        at += 1
    return tuple(out)


def _is_month(found: Sequence[Token], at: int) -> bool:
    """Return True if the word is a month: `may` and `march` beside a figure, or with a capital inside a sentence."""
    token = found[at]
    if token.text.lower() not in _ALSO_WORDS or (token.name and not token.starts):
        return True
    return _day(found, at - 1) or _day(found, at + 1) or _year(found, at + 1)


def _append_month(out: list[Token], found: Sequence[Token], at: int) -> int:
    """Put the date around the month at `at` into `out`; how many tokens after the month belong to it."""
    day, after = "", 0
    if out and out[-1].kind == "number" and _day(found, at - 1):
        day = f"{int(out.pop().key):02}"
    elif len(out) > 1 and out[-1].key == "of" and out[-2].kind == "number" and _day(found, at - 2):
        out.pop()
        day = f"{int(out.pop().key):02}"
    elif _day(found, at + 1):
        day, after = f"{int(found[at + 1].key):02}", 1
    year = ""
    if _year(found, at + after + 1):
        after += 1
        year = found[at + after].key
    words = " ".join(token.text for token in found[max(0, at - bool(day and not after)) : at + after + 1])
    month = f"{_MONTHS[found[at].text.lower()]:02}"
    out.append(Token(words, "-".join((year, month, day)).rstrip("-"), "date", False, found[at].starts))
    return after


def _day(found: Sequence[Token], at: int) -> bool:
    return (
        0 <= at < len(found)
        and found[at].kind == "number"
        and found[at].key.isdigit()
        and 0 < int(found[at].key[:9]) < 32
    )


def _year(found: Sequence[Token], at: int) -> bool:
    return 0 <= at < len(found) and found[at].kind == "number" and found[at].key.isdigit() and len(found[at].key) == 4


_GREETINGS: Final = frozenset({"hello", "hi", "hey", "please", "ok", "okay"})
_ACRONYMS: Final = {"US": "unitedstat", "USA": "unitedstat", "UK": "unitedkingdom", "NYC": "newyorkcity"}


class _Reading(NamedTuple):
    """The reading of a phrase, and whether it counts at the head of a sentence only."""

    keys: tuple[str, ...]
    heads: bool


def _choices(pattern: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for part in pattern.replace("(", "\0(").replace(")", ")\0").split("\0"):
        options = part[1:-1].split("|") if part.startswith("(") else [part]
        found = [(*done, *option.split()) for done in found for option in options]
    return found


@dataclass(slots=True)
class _Node:
    """The reading of the words so far, and the words that may come next."""

    read: _Reading | None = None
    after: "dict[str, _Node]" = field(default_factory=dict)


def _tree() -> dict[str, _Node]:
    """Return the nodes of first words."""
    root = _Node()
    for rule in lines_of("phrases"):
        phrase, _, read = rule.partition(":")
        for words in _choices(phrase.removeprefix("^")):
            node = root
            for word in words:
                node = node.after.setdefault(stem(word) if word != "i'd" else "i", _Node())
            if words:
                node.read = _Reading(tuple(stem(word) for word in read.split()), phrase.startswith("^"))
    return root.after


_PHRASES: Final = _tree()


def rewritten(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with phrases rewritten, longest first, until the end is reached once.

    Literals stay as they are.
    """
    out: list[Token] = []
    keys = [token.key if token.kind == "word" else "\0" for token in found]
    greeted = next((at for at, token in enumerate(found) if token.key not in _GREETINGS), len(found))
    at, starts = 0, False
    while at < len(found):
        token = found[at]
        starts = starts or token.starts
        size, read = _match(keys, at, starts or at <= greeted) if keys[at] in _PHRASES else (0, ())
        if size:
            words = " ".join(one.text for one in found[at : at + size])
            named = any(one.name and not one.starts for one in found[at : at + size])
            for key in read:
                out.append(Token(words, key, "word", named, starts))
                starts = False
            at += size
            continue
        if token.text in _ACRONYMS and token.kind == "word":
            token = token._replace(key=_ACRONYMS[token.text])
        out.append(token if token.starts == starts else token._replace(starts=starts))
        starts = False
        at += 1
    return tuple(out)


def _match(keys: Sequence[str], at: int, heads: bool) -> tuple[int, tuple[str, ...]]:
    """Return the length of the longest phrase from here on, and its reading; 0 words if no phrase starts here."""
    found: tuple[int, tuple[str, ...]] = (0, ())
    nodes, size = _PHRASES, 0
    while at + size < len(keys) and (node := nodes.get(keys[at + size])) is not None:
        size += 1
        if node.read is not None and (not node.read.heads or (heads and at + size < len(keys))):  # it opens something
            found = size, node.read.keys
        nodes = node.after
    return found
