"""The way that a preposition points: from A is not to A, and above B is not below B."""

from typing import Final

from headrace_workers.guards.profile import Profile, said, says_what
from headrace_workers.guards.small_words import DETERMINERS, PREPOSITIONS

# Of each group, one may stand for another or be left out: `weather in Paris`, `weather for Paris`, `Paris weather`.
_LOOSE: Final = (
    frozenset({"", "of", "in", "on", "at", "for", "within", "across"}),
    frozenset({"", "of", "for", "about", "regard", "concern"}),
    frozenset({"", "to"}),
    frozenset({"", "with"}),
    frozenset({"", "by"}),
    frozenset({"", "and", "or"}),
    frozenset({"and", "with"}),
    frozenset({"and", "between"}),
)
_WAYS: Final = PREPOSITIONS | {"and", "or", "regard", "concern"}


class Directions:
    """Refuses where the same word follows another preposition of direction, order or side."""

    name = "directions"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where each word is reached in the same direction."""
        ours, theirs = _reached(asked), _reached(cached)
        for word, way in ours.items():
            other = theirs.get(word)
            if other is not None and way != other and not _same(way, other):
                name = said([word], asked)
                return f"asks about {way} {name}; the answer is about {other} {name}".replace("  ", " ")
        return None


def _same(one: str, other: str) -> bool:
    """Whether two prepositions may say the same before one word; an empty one stands for none."""
    return any(one in group and other in group for group in _LOOSE)


def _reached(read: Profile) -> dict[str, str]:
    """The preposition before each thing named, across articles and figures."""
    found: dict[str, str] = {}
    way = ""
    for token in read.tokens:
        if token.kind == "word" and token.key in _WAYS:
            way = token.key
        elif token.kind in {"number", "date"}:
            continue
        elif says_what(token):
            found.setdefault(token.key, way)
            way = way if token.name else ""
        elif token.key not in DETERMINERS:
            way = ""
    return found
