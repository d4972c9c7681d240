"""Patterns that tell whether a text may hold something, by RE2.

Python's own engine tries every word of a pattern at every place of a text: 50 µs for a hundred characters. RE2 reads a
text once, in 2 µs, whatever the pattern.
"""

from functools import cached_property
from typing import Any


class QuickPattern:
    """A pattern of RE2, which is compiled at its first use.

    RE2's `\\b`, `\\w` and `\\d` know ASCII alone, unlike Python's: `\\b` is safe only beside a letter of ASCII.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def search(self, text: str) -> object:
        """Return what matches first, or None."""
        return self._compiled.search(text.encode("utf-8", "replace"))

    @cached_property
    def _compiled(self) -> Any:
        import re2

        return re2.compile(self._pattern.encode())
