"""Digits, signs and spaces as a keyboard has them: ４１１１, ann＠example．com, 555‑0142 with a hyphen of print.

Writers, input methods and models put others in their places, and no pattern knows them all. Each is one character for
one, so that spans stay where they are.
"""

import re
import unicodedata
from functools import cache
from typing import Final

_PAST: Final = 0x1FC00  # behind Unicode's last digit
_DASHES: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63"), "-")  # a — parts sentences, and stays
_SIGNS: Final = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if not chr(code - 0xFEE0).isalpha()}


def _digits_and_spaces() -> dict[int, str]:
    found = dict[int, str]()
    for code in range(128, _PAST):
        match unicodedata.category(character := chr(code)):
            case "Nd":
                found[code] = str(unicodedata.decimal(character))
            case "Zs":
                found[code] = " "
    return found


@cache
def _typed() -> tuple[dict[int, str], re.Pattern[str]]:
    """Return the replacements and the pattern that finds them. They are built for the first text beyond ASCII."""
    table = {**_digits_and_spaces(), **_DASHES, **_SIGNS}
    return table, re.compile(f"[{''.join(map(re.escape, map(chr, table)))}]")


def as_typed(text: str) -> str | None:
    """Return the text with a keyboard's digits, signs and spaces in place of other forms; None where it has none."""
    if text.isascii():
        return None
    table, others = _typed()
    return text.translate(table) if others.search(text) else None
