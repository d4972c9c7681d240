"""Words that ask for the same in most questions: a general list. A pair that is not in it is taken for a swap."""

from typing import Final

from headrace_workers.guards.lists import lines_of, words_of
from headrace_workers.guards.stems import stem

_OF: Final[dict[str, frozenset[int]]] = {}
for _number, _group in enumerate(lines_of("paraphrases")):
    for _one in _group.split():
        _OF[stem(_one)] = _OF.get(stem(_one), frozenset()) | {_number}

_NONE: Final[frozenset[int]] = frozenset()
_SUFFIXES: Final = words_of("""e y s es ies ing ed ion ation ition at ment ance ence ly ity ness""")


def alike(one: str, other: str) -> bool:
    """Whether two stems ask for the same: they share a group, or differ by an ending that changes no meaning."""
    return bool(_OF.get(one, _NONE) & _OF.get(other, _NONE)) or _near(one, other)


def _near(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    root = shorter[:-1] if shorter[-1] in "ey" else shorter
    return len(root) >= 5 and longer.startswith(root) and longer[len(root) :] in _SUFFIXES
