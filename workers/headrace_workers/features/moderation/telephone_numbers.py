"""Telephone numbers by Google's libphonenumber, scored by how they are written."""

import re
from collections.abc import Iterator
from typing import Any, Final

import phonenumbers

from headrace_workers.features.moderation.personal_words import ENOUGH_DIGITS

SHAPED_SCORE: Final = 0.6  # written like a telephone number: +49 …, (202) …, 202-555-…
PLAIN_SCORE: Final = 0.3  # a bare run of digits: needs a word like "call" before it
_SEPARATORS = re.compile(r"[-‐-―−./()\u00a0\s]+")
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ][01]?\d[-./ ][0-3]?\d"
    r"|[0-3]?\d[-./ ][01]?\d[-./ ](?:19|20)\d\d"
    r"|[0-3]?\d[-./][01]?\d[-./]\d\d\b"
)
_FIGURE = r"\d{1,3}(?:[\u00a0 .]\d{3})+"
# 3 100 200, 3 000-8 000: the first is also how some countries write a number to call
_AMOUNT = re.compile(rf"{_FIGURE}(?:[ ]?[-‐-―−][ ]?(?!0){_FIGURE})?")
# First none, for numbers with `+`. Canada shares the plan of the United States.
REGIONS: Final = (None, "US", "GB", "DE", "FR", "IL", "IN", "BR", "ES", "PL")
LENIENCY: Final = 1  # phonenumbers' VALID


def telephone_numbers(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of valid numbers: of any region when written with `+`, else of the regions above."""
    for region in REGIONS:
        # Trying a region costs about 0.1 ms a candidate, so settled candidates are hidden from the next.
        if not ENOUGH_DIGITS.search(text):
            return
        for match in _Matcher(text, region):
            score = _shape(text, match.start, match.end)
            if score:
                yield match.start, match.end, score
            if score == SHAPED_SCORE:
                text = text[: match.start] + "A" * (match.end - match.start) + text[match.end :]


class _Matcher(phonenumbers.PhoneNumberMatcher):
    """The library's matcher, which reads a repeated candidate once: a candidate that is no number costs up to twenty
    tries, each in every country, and a text may consist of such candidates.
    """

    def __init__(self, text: str, region: str | None) -> None:
        super().__init__(text, region, leniency=LENIENCY)
        self._known: dict[tuple[str, str, str], Any] = {}

    def _parse_and_verify(self, candidate: str, offset: int) -> Any:
        """Return the cached verdict: it depends on the candidate and the characters beside it alone."""
        end = offset + len(candidate)
        key = (candidate, self.text[max(0, offset - 1) : offset], self.text[end : end + 1])
        if key not in self._known:
            match = super()._parse_and_verify(candidate, offset)
            self._known[key] = None if match is None else match.number
        number = self._known[key]
        return None if number is None else phonenumbers.PhoneNumberMatch(offset, candidate, number)


def _shape(text: str, start: int, end: int) -> float:
    """Return how much the span looks like a telephone number; 0 for a date, an amount or part of a code."""
    raw = text[start:end]
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if not ENOUGH_DIGITS.search(raw) or _DATE.search(raw):
        return 0.0
    if raw.startswith(("+", "＋")) or (raw.startswith("(") and ")" in raw):
        return SHAPED_SCORE
    if before in ("-", "/", "#", "_", "$", "€", "£") or after in ("-", "/", "_", "%"):
        return PLAIN_SCORE
    if _AMOUNT.fullmatch(raw):
        return PLAIN_SCORE
    groups = [group for group in _SEPARATORS.split(raw) if group]
    shaped = 3 <= len(groups) <= 6 or (len(groups) == 2 and raw.startswith("0") and sum(map(len, groups)) >= 9)
    return SHAPED_SCORE if shaped else PLAIN_SCORE
