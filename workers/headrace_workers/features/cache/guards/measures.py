"""Units of measure and money, read by any of their names."""

from collections.abc import Sequence
from typing import Final

from headrace_workers.features.cache.guards.stems import stem
from headrace_workers.features.cache.guards.tokens import Token
from headrace_workers.features.cache.guards.word_lists import lines_of, words_of

_UNITS: Final = {
    form: names[0]
    for line in lines_of("units")
    for names in [line.split()]
    for name in names
    for form in (name, stem(name))
}
UNITS: Final = frozenset(_UNITS)
_ONLY_AFTER_FIGURES: Final = words_of(
    """m g l second minute hour day week month year decade century mm stone cup bit ton foot quarter degree
    pint"""
)
_BEFORE_UNITS: Final = frozenset({"many", "much", "in"})


def measures(found: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens with units as unit tokens.

    A unit's name that is also a word counts after a figure, `how many` or `in` only.
    """
    if UNITS.isdisjoint([token.key for token in found]):
        return tuple(found)
    out: list[Token] = []
    for token in found:
        named = _UNITS.get(token.key) if token.kind in {"word", "literal", "symbol"} and not token.name else None
        figure = bool(out) and (out[-1].kind == "number" or (out[-1].key in _BEFORE_UNITS and token.text.endswith("s")))
        if named and (figure or named not in _ONLY_AFTER_FIGURES):
            out.append(token._replace(key=named, kind="unit"))
        else:
            out.append(token)
    return tuple(out)
