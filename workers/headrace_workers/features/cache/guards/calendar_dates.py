"""Days, months and dates, read as one token each: `3 March 2024`, `March 3rd, 2024` and `2024-03-03` are the same."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.features.cache.guards.tokens import Token
from headrace_workers.features.cache.guards.word_lists import words_of

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
