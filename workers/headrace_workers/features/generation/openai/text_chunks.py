"""A finished text in pieces, for clients that read answers as they come."""

import re
from typing import Final

# About a line, and up to a space where there is one.
_PIECE: Final = re.compile(r".{1,63}\s|.{1,64}", re.DOTALL)


def pieces(text: str) -> list[str]:
    """Yield the text in pieces; joined, they are the text again."""
    return _PIECE.findall(text)
