"""Labels of audits: whether a served answer and a fresh one mean the same: clean, wrong, or unclear.

A wrong label may turn a tier off, and a clean one vouches for it: both are given only where little else is possible.
Other answers in free words are unknown, and go to people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from headrace_workers.features.cache.calibration.answer_words import NOT, Token, read

Kind = Literal["clean", "wrong", "unknown"]

SHORT: Final = 16  # words: in a longer answer a number that differs may stand beside the point
LEAST_COSINE: Final = 0.8
_CLOSE: Final = Decimal("0.01")  # of a number of 10,000 and more: one may be rounded
_LARGE: Final = 10_000
_HEDGES: Final = frozenset(
    ["about", "approximately", "around", "roughly", "nearly", "almost", "over", "under", "circa", "ca", "up"]
) | frozenset("~≈<>")
# "Not only …" denies nothing. "Unless" and "or" turn meanings around in ways that counting cannot see.
_TWISTS: Final = frozenset(
    ["only", "just", "merely", "simply", "but", "unless", "until", "or", "nor", "neither", "either", "why"]
)
_ANSWERS: Final = {"yes": True, "no": False, "true": True, "false": False, "correct": True, "incorrect": False}


@dataclass(frozen=True, slots=True)
class Label:
    """The label of an audit, and its reason, in words for people."""

    kind: Kind
    reason: str


def compare(served: str, fresh: str, cosine: float | None = None) -> Label:
    """Compare the answer that was served with one generated afresh for the same question.

    `cosine` of the two, where it is known, may refuse what the words would confirm; it never confirms, since it is
    blind to negation. Code is compared letter by letter alone.
    """
    if served.strip() == fresh.strip():
        return Label("clean", "the same text")
    if "```" in served or "```" in fresh:
        return Label("unknown", "code that differs")
    ours, theirs = read(served), read(fresh)
    if ours == theirs and ours:
        if cosine is not None and not cosine >= LEAST_COSINE:  # NaN refuses, too
            return Label("unknown", f"the same words, but their cosine is {cosine:.2f}")
        return Label("clean", "the same words, numbers and polarity")
    if max(len(ours), len(theirs)) > SHORT:
        return Label("unknown", f"they differ, and are longer than {SHORT} words")
    return _contradiction(served, fresh, ours, theirs) or Label("unknown", "different words")


def _contradiction(served: str, fresh: str, ours: Sequence[Token], theirs: Sequence[Token]) -> Label | None:
    yes = _ANSWERS.get(_bare(served)), _ANSWERS.get(_bare(fresh))
    if None not in yes and yes[0] != yes[1]:
        return Label("wrong", f"one says {_bare(served)}, the other {_bare(fresh)}")
    if _without_not(ours) == _without_not(theirs) and {ours.count(NOT), theirs.count(NOT)} == {0, 1}:
        twisted = _TWISTS & {token.text for token in (*ours, *theirs)}
        # To "Isn't it free?" the answers "No, it is free" and "It is free" are the same.
        if twisted or NOT in (*ours[:1], *theirs[:1]):
            return None
        return Label("wrong", "one denies what the other says, in the same words")
    return _other_number(ours, theirs)


def _other_number(ours: Sequence[Token], theirs: Sequence[Token]) -> Label | None:
    """Return a label for the same words in the same order with another number, date or time that no rounding
    explains.
    """
    if len(ours) != len(theirs) or _HEDGES & {token.text for token in (*ours, *theirs)}:
        return None
    differing = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    for a, b in differing:
        if a.kind != b.kind or a.kind not in {"number", "date", "time"}:
            return None
        if a.number is not None and b.number is not None and _rounded(a.number, b.number):
            return None
    if not differing:
        return None
    a, b = differing[0]
    return Label("wrong", f"one says {a.text}, the other {b.text}, in the same words")


def _rounded(a: Decimal, b: Decimal) -> bool:
    """Return True if one may be the other with fewer digits: 3.14 and 3.14159, 1,300,000 and 1,297,000."""
    if min(abs(a), abs(b)) >= _LARGE and abs(a - b) <= _CLOSE * max(abs(a), abs(b)):
        return True
    places = [-int(each.as_tuple().exponent) for each in (a, b)]
    return places[0] != places[1] and abs(a - b) <= Decimal(1).scaleb(-min(places))


def _without_not(tokens: Sequence[Token]) -> list[Token]:
    return [token for token in tokens if token != NOT]


def _bare(text: str) -> str:
    return text.strip().rstrip(".!").casefold()
