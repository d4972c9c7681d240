"""Numbers in words, read as the numbers that they are: `twenty-five`, `two hundred`, `third`, `1.5 million`."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.features.cache.guards.tokens import Token, value
from headrace_workers.features.cache.guards.word_lists import words_of

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
