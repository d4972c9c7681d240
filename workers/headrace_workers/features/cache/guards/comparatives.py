"""More or less, most or least, and than what."""

from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, in_words, read_once
from headrace_workers.features.cache.guards.stems import stem

_WORDS: Final = {
    "more": "more",
    "less": "less",
    "fewer": "less",
    "most": "most",
    "least": "least",
    "best": "best",
    "worst": "worst",
    "better": "better",
    "worse": "worse",
}
_THAN: Final = frozenset({"than", "morethan", "lessthan"})
_NAMED: Final = _THAN.union(_WORDS)
_GOOD: Final = frozenset(
    stem(word) for word in ("good", "ideal", "right", "recommend", "suggest", "should", "suitable", "favourite")
)


class Comparison:
    """Refuses another direction or degree of comparison, and another side after `than`."""

    name = "comparison"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same is compared in the same direction."""
        ours, theirs = _comparison(asked), _comparison(cached)
        if ours == theirs or _praises(ours, cached, theirs) or _praises(theirs, asked, ours):
            return None
        return f"compares by {in_words(ours, asked)}; the answer compares by {in_words(theirs, cached)}"


def _praises(ours: list[str], other: Profile, theirs: list[str]) -> bool:
    """Return True for `the best card for it`, `a good card for it`, `which card should I use for it`."""
    return ours == ["best"] and not theirs and not other.keys.isdisjoint(_GOOD)


@read_once
def _comparison(read: Profile) -> list[str]:
    if read.keys.isdisjoint(_NAMED):
        return []
    found = []
    than = False
    for token in read.tokens:
        if token.kind != "word":
            than = False
        elif token.key in _THAN:
            than = True
        elif token.key in _WORDS:
            found.append(_WORDS[token.key])
        elif than and token.key not in {"the", "a", "an", "my", "is", "be"}:
            found.append(f"than {token.key}")
            than = False
    return sorted(found)
