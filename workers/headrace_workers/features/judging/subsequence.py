"""The longest common subsequence of two texts: what both have in the same order, with gaps."""

from collections.abc import Sequence


def longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return its length, in words or in characters (Hyyrö 2004): one row of the table is one whole number.

    The table of two texts of 100,000 words has 10^10 places; so it takes a second or two.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(theirs):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(theirs)) - 1
    row = whole
    for word in ours:
        found = row & places.get(word, 0)
        if found:
            row = ((row + found) | (row - found)) & whole
    return len(theirs) - row.bit_count()
