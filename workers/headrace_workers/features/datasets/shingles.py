"""Runs of words: what two texts have in common that is no accident."""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"\w+")
NEAR: Final = 5  # words in a row, for likeness
SAME: Final = 13  # in a row, for a test that has leaked: as in Brown et al. 2020 (arXiv 2005.14165, appendix C)


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def shingles(words: list[str], length: int) -> Iterator[bytes]:
    """Yield digests of all runs of so many words; of a shorter text, the digest of all its words."""
    for start in range(max(1, len(words) - length + 1)):
        yield hashlib.blake2b(" ".join(words[start : start + length]).encode(), digest_size=8).digest()
