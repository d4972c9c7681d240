"""Words that ask for the same in most questions: a general list. A pair that is not in it is taken for a swap."""

from typing import Final

from headrace_workers.features.cache.guards.stems import stem
from headrace_workers.features.cache.guards.word_lists import lines_of, words_of

_OF: Final[dict[str, frozenset[int]]] = {}
for _number, _group in enumerate(lines_of("paraphrases")):
    for _one in _group.split():
        _OF[stem(_one)] = _OF.get(stem(_one), frozenset()) | {_number}

_NONE: Final[frozenset[int]] = frozenset()
_SUFFIXES: Final = words_of("""e y s es ies ing ed ion ation ition at ment ance ence ly ity ness ful al ally""")
# Endings of words of one root: decide and decision, frequent and frequency, toxic and toxicity.
_ENDINGS: Final = frozenset(
    frozenset(pair.split())
    for pair in ("t cy", "t ce", "te cy", "d sion", "de sion", "t sion", "t ssion", "able ability", "abl ability",
                 "ible ibility", "ibl ibility", "fy fication", "e al", "ous ity", "ic icity", "y ies")
)  # fmt: skip


def alike(one: str, other: str) -> bool:
    """Return True if two stems ask for the same: they share a group, or differ by an ending that changes no meaning."""
    return bool(_OF.get(one, _NONE) & _OF.get(other, _NONE)) or _near(one, other)


def _near(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    root = shorter[:-1] if shorter[-1] in "ey" else shorter
    if longer.startswith(root) and longer[len(root) :] in _SUFFIXES:
        return len(root) >= (4 if longer[len(root) :] in {"ful", "ly", "ness", "ment"} else 5)
    shared = next((at for at, (mine, yours) in enumerate(zip(one, other, strict=False)) if mine != yours), len(shorter))
    return shared >= 4 and frozenset((one[shared:], other[shared:])) in _ENDINGS
