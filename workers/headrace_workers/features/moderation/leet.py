"""Digits and signs that stand for letters, as in `1d10t` and `$h1t`: one for one, so that spans stay where they are."""

import re
from typing import Final

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
_LONGEST: Final = 32  # characters; what is longer is a key, a path or an address


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
