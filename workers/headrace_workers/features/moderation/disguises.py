"""Disguises of words: characters that nobody sees, and signs that stand for letters, as in `1d10t` or `$h1t`.

A sign stands for one letter, so that spans keep their places.
"""

import re
from collections.abc import Sequence
from typing import Final

# Unicode's Default_Ignorable_Code_Point: soft hyphen, zero-width spaces and joiners, marks of direction, tags, …
_IGNORABLE: Final = (
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff"
)
_HIDDEN: Final = re.compile(rf"(?<=\S)[{_IGNORABLE}]+(?=\S)")
_SEEN: Final = re.compile(rf"[^{_IGNORABLE}]+")

_SIGNS: Final = "0134578@$!|"
_LETTERS: Final = str.maketrans(_SIGNS, "oieastbasii")
# A sign between letters, or one that a word begins or ends with. Ordinals (`3rd`) and what is counted (`10km`) are
# none, and no more is the @ of an address.
_WITHIN: Final = rf"(?<=[A-Za-z].)(?<!@)[{_SIGNS}]*[A-Za-z]|(?<=[A-Za-z]@)(?![A-Za-z0-9-]*\.[A-Za-z0-9])[A-Za-z]"
_FIRST: Final = r"(?<![\w@$].)(?<=[0134578@$])(?!st\b|nd\b|rd\b|th\b)[A-Za-z]{2}"
_LAST: Final = r"(?<=[A-Za-z][$@])[$@]*(?!\w)"
_SIGN: Final = re.compile(rf"[{_SIGNS}](?:{_WITHIN}|{_FIRST}|{_LAST})")
_WORD: Final = re.compile(rf"[A-Za-z0-9{_SIGNS}]+")
has_signs: Final = _SIGN.search  # whether any sign may stand for a letter
_LONGEST: Final = 32  # characters; a longer one is a key, a path or an address


def without_invisible(text: str) -> tuple[str, Sequence[int]] | None:
    """Return the visible text, and for each of its characters the place in `text`; None where nothing is hidden."""
    if text.isascii() or not _HIDDEN.search(text):
        return None
    seen = list(_SEEN.finditer(text))
    return "".join(part[0] for part in seen), [place for part in seen for place in range(*part.span())]


def without_signs(text: str) -> str | None:
    """Return the text with letters in place of signs that stand for them, or None. A 1 is read as an i."""
    if not _SIGN.search(text):
        return None
    read = _WORD.sub(lambda word: _read(word[0]), text)
    return read if read != text else None


def _read(word: str) -> str:
    if len(word) > _LONGEST or not _SIGN.search(word):
        return word
    core = word.rstrip("!|")  # a sentence that ends
    return core.translate(_LETTERS) + word[len(core) :]
