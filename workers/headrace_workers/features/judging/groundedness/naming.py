"""Names as they stand in a sentence: which there are, and the sentence without them."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from headrace_workers.features.judging.groundedness.sentence_reading import written_names

_NOBODY: Final = "X"


def names_in(sentence: str, known: Collection[str]) -> list[str]:
    """Return the names in a sentence. A name at its beginning may be one word, if it is a known one."""
    found = written_names(sentence)
    first = sentence.split(maxsplit=1)[0].rstrip(",.'") if sentence else ""
    return [first, *found] if first in known and first not in found else found


def known_names(sentences: Iterable[str]) -> frozenset[str]:
    """Return the names in these sentences, and their last words, by which people are called later."""
    return with_last_words(name for sentence in sentences for name in written_names(sentence))


def with_last_words(names: Iterable[str]) -> frozenset[str]:
    """Return these names, and the last word of each."""
    return frozenset(word for name in names for word in (name, name.split()[-1]))


def hidden(sentence: str, names: Iterable[str]) -> str:
    """Return the sentence with each of these names replaced by the same word."""
    for name in sorted(names, key=len, reverse=True):
        sentence = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _NOBODY, sentence)
    return sentence


def alike(one: str, other: str) -> bool:
    """Return True if two names have a word in common: `Voss` is `Hanne Voss`."""
    return not set(one.split()).isdisjoint(other.split())
