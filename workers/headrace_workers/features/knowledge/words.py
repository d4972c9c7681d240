"""From a text to the terms that are looked up: prose in several languages, and the names in code.

- Words in any case, with or without accents: `Café` is `cafe`.
- Names as they are, and their parts: `asyncio.TaskGroup` is also `asyncio`, `taskgroup`, `task` and `group`;
  `max_age` also `max` and `age`; `C++` and `C#` are not `C`.
- Scripts without spaces between words (Chinese, Japanese, Thai, …), and Korean, whose words carry their particles:
  each character, and each pair of neighbours.

No word is left out and none is stemmed, so that every language is treated alike. Linear in the text.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import Final

_LONGEST: Final = 64  # characters of a term; what is longer (base64, …) is known by its beginning

# Written without spaces between words: Thai, Lao, Burmese, Khmer; kana, Chinese characters, Hangul.
_SIGNS: Final = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED: Final = _SIGNS + r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
# `\w` does not match vowel signs. Vowel signs of the Indic scripts belong to their words too, but dandas end sentences.
_LETTER: Final = rf"[\w\u0900-\u0963\u0966-\u0df3{_SIGNS}]"
_NAME: Final = re.compile(rf"{_LETTER}+(?:\.{_LETTER}+)*(?:\+\+|\#)?")
_RUN: Final = re.compile(rf"([{_UNSPACED}]+)|[^{_UNSPACED}]+")
_ACCENTS: Final = re.compile(r"[\u0300-\u036f]+")
# Parts of a name: `HTTPServer` is HTTP and Server.
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+")


def term_counts(text: str) -> Counter[str]:
    """Return each term of the text, and how often it is there."""
    counts: Counter[str] = Counter()
    for name, times in Counter(_NAME.findall(_plain(text))).items():
        for term in (_terms_remembered if len(name) <= _LONGEST else _terms)(name):
            counts[term] += times
    return counts


def words(text: str) -> list[str]:
    """Return the words in order, whatever their case; one character is a word in scripts without spaces."""
    found: list[str] = []
    for name in _NAME.findall(_plain(text)):
        for run in _RUN.finditer(name.casefold()):
            found += run[0] if run[1] else [run[0]]
    return found


def _plain(text: str) -> str:
    """Compatible forms made one (full width, ligatures), and no accents."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))


def _terms(name: str) -> tuple[str, ...]:
    """Return a name and its parts, each once."""
    found: dict[str, None] = {}
    for run in _RUN.finditer(name):
        if run[1]:
            found |= dict.fromkeys(run[1]) | {a + b: None for a, b in pairwise(run[1])}
            continue
        found[_term(run[0])] = None
        for part in run[0].rstrip("+#").split("."):
            found[_term(part)] = None
            found |= {_term(inner): None for inner in _PART.findall(part) if len(inner) > 1}
    found.pop("", None)
    return tuple(found)


_terms_remembered: Final = lru_cache(maxsize=1 << 16)(_terms)


def _term(name: str) -> str:
    return name.casefold()[:_LONGEST]
