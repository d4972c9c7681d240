"""Characters that nobody sees, and that would hide a word or a key from a pattern when they stand in its middle."""

import re
from collections.abc import Sequence
from typing import Final

# Unicode's Default_Ignorable_Code_Point: soft hyphen, zero-width spaces and joiners, marks of direction, tags, …
_IGNORABLE: Final = (
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff"
)
_WITHIN: Final = re.compile(rf"(?<=\S)[{_IGNORABLE}]+(?=\S)")
_SEEN: Final = re.compile(rf"[^{_IGNORABLE}]+")


def without_invisible(text: str) -> tuple[str, Sequence[int]] | None:
    """Return the visible text, and for each of its characters the place in `text`; None where nothing is hidden."""
    if text.isascii() or not _WITHIN.search(text):
        return None
    seen = list(_SEEN.finditer(text))
    return "".join(part[0] for part in seen), [place for part in seen for place in range(*part.span())]
