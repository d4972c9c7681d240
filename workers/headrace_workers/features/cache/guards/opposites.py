"""Words of which one says the opposite of the other, or another side, place in the order, or direction."""

from typing import Final

from headrace_workers.features.cache.guards.stems import stem
from headrace_workers.features.cache.guards.word_lists import lines_of

_SIDES: Final[dict[str, set[tuple[int, int]]]] = {}
for _number, _line in enumerate(lines_of("opposites")):
    for _side, _words in enumerate(_line.split("|")):
        for _word in _words.split():
            _SIDES.setdefault(stem(_word), set()).add((_number, _side))


def opposite(one: str, other: str) -> bool:
    """Return True if two stems are opposites."""
    sides = _SIDES.get(other)
    return sides is not None and any((number, 1 - side) in sides for number, side in _SIDES.get(one, ()))
