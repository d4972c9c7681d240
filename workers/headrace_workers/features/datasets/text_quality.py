"""The quality of a text: rules of thumb, as for web text in Rae et al. 2021 (arXiv 2112.11446, table A1).

Each gives a reason, or None. They are for prose: `--no-quality` is there for code and tables.
"""

import unicodedata
from collections import Counter
from typing import Final

LEAST_WORDS: Final = 3
_LONGEST_MEAN_WORD: Final = 15.0  # characters
_LEAST_LETTERS: Final = 0.5  # of all characters but white space
_MOST_REPEATED_LINES: Final = 0.3
_MOST_OF_ONE_WORD: Final = 0.3
_SEVERAL: Final = 5  # lines or words, before their repetition says something
_MANY_WORDS: Final = 20


def poor(text: str) -> str | None:
    """Return the fault of a text, in words, or None."""
    words = text.split()
    if len(words) < LEAST_WORDS:
        return f"it has fewer than {LEAST_WORDS} words"
    signs = [sign for sign in text if not sign.isspace()]
    letters = sum(unicodedata.category(sign)[0] in "LM" for sign in signs) / len(signs)
    if letters < _LEAST_LETTERS:
        return f"{letters:.0%} of its characters are letters, fewer than {_LEAST_LETTERS:.0%}"
    # A script without spaces has long words, and letters of a class of their own.
    if sum(map(len, words)) / len(words) > _LONGEST_MEAN_WORD and text.isascii():
        return f"its words have more than {_LONGEST_MEAN_WORD:g} characters on average"
    return _repeats(text, words)


def _repeats(text: str, words: list[str]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= _SEVERAL and (again := 1 - len(set(lines)) / len(lines)) > _MOST_REPEATED_LINES:
        return f"{again:.0%} of its lines stand in it already"
    if len(words) >= _MANY_WORDS:
        word, count = Counter(word.casefold() for word in words).most_common(1)[0]
        if count / len(words) > _MOST_OF_ONE_WORD:
            return f"{count / len(words):.0%} of its words are {word[:40]!r}"
    return None
