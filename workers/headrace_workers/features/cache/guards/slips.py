"""Slips of the keyboard: a word that is none, one slip away from a single common word, is read as that word."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from headrace_workers.features.cache.guards.word_lists import lines_of

_MISSPELT: Final = dict(line.split() for line in lines_of("misspelt"))
_COMMON: Final = frozenset(word for line in lines_of("common") for word in line.split())
_LENGTHS: Final = range(5, 21)


def _without_a_letter() -> dict[str, str]:
    """Return the common words by what is left of each without one of its inner letters; none by what two share."""
    found: dict[str, str] = {}
    for word in _COMMON:
        for at in range(1, len(word) - 1):
            left = word[:at] + word[at + 1 :]
            found[left] = word if found.get(left, word) == word else ""
    return found


_WITHOUT_A_LETTER: Final = _without_a_letter()


@lru_cache(maxsize=16_384)
def corrected(word: str) -> str:
    """Return what a word in lower case was meant to be: the same word, unless it is a known slip.

    Two letters have changed places, one was left out or one was typed twice; the first letter is right, and so is the
    last of a word without one of its letters.
    """
    if word in _MISSPELT:
        return _MISSPELT[word]
    if len(word) not in _LENGTHS or word in _COMMON:
        return word
    meant = {each for each in _one_slip_away(word) if each in _COMMON}
    if (whole := _WITHOUT_A_LETTER.get(word)) is not None:
        meant.add(whole)
    return meant.pop() or word if len(meant) == 1 else word


def _one_slip_away(word: str) -> Iterator[str]:
    for at in range(1, len(word)):
        if at + 1 < len(word):
            yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if word[at] == word[at - 1]:
            yield word[:at] + word[at + 1 :]
