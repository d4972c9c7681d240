"""The way that a preposition points: from A is not to A, and above B is not below B."""

from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, in_words, is_content, read_once
from headrace_workers.features.cache.guards.small_words import DETERMINERS, PREPOSITIONS, PRONOUNS
from headrace_workers.features.cache.guards.symmetric import symmetric
from headrace_workers.features.cache.guards.word_lists import words_of

# Before the same word, one of the left is another way than one of the right; `""` is no preposition at all. All
# else may stand for each other: `a stain on`, `from`, `out of` the carpet.
_WAYS_APART: Final = tuple(
    (frozenset(one.split()), frozenset(other.split()))
    for one, other in (
        ("from off out", "to into onto toward towards"),
        ("before", "after during since until till within"),
        ("after since", "during until till within"),
        ("above over on upon onto", "below under underneath beneath"),
        ("in inside into within", "outside"),
        ("in inside within on", "under below behind beside near around opposite above across"),
        ("behind", "beside opposite above below near through across along"),
        ("beside near", "opposite above below"),
        ("with", "without against"),
        ("for", "against without"),
        ("by", "about for against to from without regard concern"),
        ("about regard concern", "to from with without for"),
        ("up", "down"),
        ("unlike", "like as"),
        ("except despite without against", "in on at with for by of about"),
        ("and", "or"),
        ("as", "with without by from to"),
    )
)
_LONE_APART: Final = words_of("from before after above below under without against except until since behind")
_LINKS: Final = frozenset({"and", "or", "between"})
_TO: Final = {"into": "to", "onto": "to", "toward": "to", "towards": "to"}
_WAYS: Final = PREPOSITIONS | {"and", "or", "regard", "concern"}
# In `before you cook it` and `before it is cooked`, cooking is reached by `before`.
_PASSED_OVER: Final = DETERMINERS | PRONOUNS | {"be"}


class Directions:
    """Refuses where the same word follows another preposition of direction, order or side."""

    name = "directions"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where each word is reached in the same direction."""
        if symmetric(asked, cached):
            return None
        ours, theirs = _reached(asked), _reached(cached)
        ways = {word: (way, theirs[word]) for word, way in ours.items() if theirs.get(word, way) != way}
        if exchanged := _exchanged(asked, ways):
            return f"{in_words(exchanged, asked)} stand in other places in the answer"
        for word, (way, other) in ways.items():
            is_asked_for = other == _stranded(asked) or way == _stranded(cached)
            if is_asked_for or not _same(way, other) or _written_about(way, other, asked):
                name = in_words([word], asked)
                return f"asks about {way} {name}; the answer is about {other} {name}".replace("  ", " ")
        return None


def _exchanged(asked: Profile, reached: dict[str, tuple[str, str]]) -> list[str]:
    """Return words that have exchanged their prepositions, and names that all have other prepositions.

    `A string to a number`, `a number to a string`; `a German licence in Japan`, `a Japanese licence in Germany`.
    """
    moved = {word: each for word, each in reached.items() if not _LINKS.issuperset(each)}
    if not moved:
        return []
    ways = set(moved.values())
    crossed = [word for word, (here, there) in moved.items() if (there, here) in ways]
    named = {token.key for token in asked.tokens if token.name and not token.starts}
    names = [word for word in moved if word in named]
    apart = len({moved[word] for word in names}) > 1  # the words of one name move together
    return crossed or (names if apart else [])


def _written_about(one: str, other: str, asked: Profile) -> bool:
    """Return True if one is `about`: `who wrote about Moby Dick` is not `who wrote Moby Dick`."""
    return "about" in {one, other} and not asked.keys.isdisjoint({"who", "whom"})


@read_once
def _stranded(read: Profile) -> str | None:
    """Return the preposition that a question ends with: it stands before what is asked for, as in `what is it for`."""
    last = read.tokens[-1] if read.tokens else None
    return _TO.get(last.key, last.key) if last is not None and last.key in PREPOSITIONS else None


def _same(one: str, other: str) -> bool:
    """Return True if two prepositions may mean the same before one word."""
    if not one or not other:
        return (one or other) not in _LONE_APART
    return not any((one in left and other in right) or (one in right and other in left) for left, right in _WAYS_APART)


@read_once
def _reached(read: Profile) -> dict[str, str]:
    """Return the preposition before each named thing, across articles and figures."""
    found: dict[str, str] = {}
    way = ""
    for token in read.tokens:
        if token.kind == "word" and token.key in _WAYS:
            way = _TO.get(token.key, token.key)
        elif token.kind in {"number", "date"}:
            continue
        elif is_content(token):
            found.setdefault(token.key, way)
            way = way if token.name else ""
        elif token.key not in _PASSED_OVER:
            way = ""
    return found
