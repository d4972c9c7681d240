"""Kinds of differences that nobody named: words about something that only one of the questions has."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from headrace_workers.text.profile import Profile, in_words, is_content, read_once
from headrace_workers.text.tokens import Token
from headrace_workers.text.words import alike, denies, lines_of, opposite, stem

# Beyond this, words are held together by their stems alone: pairs would cost the square.
_PAIRED: Final = 40


def unmatched_words(asked: Profile, cached: Profile) -> tuple[list[str], list[str]]:
    """Return the keys of content in each question that the other does not have in any form, in order."""
    # A word twice on one side and once on the other is no difference.
    mine = [key for key in asked.content if key not in cached.content]
    yours = [key for key in cached.content if key not in asked.content]
    if not mine or not yours or len(mine) > _PAIRED or len(yours) > _PAIRED:
        return mine, yours
    return _unpaired(mine, yours, _exact(asked) | _exact(cached))


@read_once
def _exact(read: Profile) -> frozenset[str]:
    """Return the keys of names and literals, which have no other form: `Germany` is not `German`."""
    return frozenset([token.key for token in read.tokens if _is_name(token) or token.kind == "literal"])


def _is_name(token: Token) -> bool:
    return token.name and not token.starts


def _unpaired(mine: list[str], yours: list[str], exact: frozenset[str]) -> tuple[list[str], list[str]]:
    left = list(yours)
    unmatched = []
    for key in mine:
        match = (
            None if key in exact else next((other for other in left if other not in exact and _same(key, other)), None)
        )
        if match is None:
            unmatched.append(key)
        else:
            left.remove(match)
    return unmatched, left


def _same(one: str, other: str) -> bool:
    """Return True if two stems ask for the same. The guard of negations counts what a prefix denies."""
    return (alike(one, other) and not opposite(one, other)) or denies(one, (other,)) or denies(other, (one,))


def _stems(name: str) -> frozenset[str]:
    return _stems_of(" ".join(lines_of(name, "headrace_workers.features.cache.guards")))


def _stems_of(words: str) -> frozenset[str]:
    return frozenset(form for word in words.split() for form in (word, stem(word)))


SPOKEN: Final = _stems("spoken")
_SORTS: Final = _stems("sorts")
_FRAMING: Final = _stems("framing")
_ORDERS: Final = _stems("orders")
_NAMING: Final = _stems_of("name tell give show list mention provide enumerate")  # orders that ask for no explanation
_EXPLAINING: Final = _stems_of("explain describe define know understand")
_HAVE: Final = stem("has")
_ARTICLES: Final = frozenset({"a", "an"})


class Residual:
    """Refuses where one question has a word of content that the other lacks in any form. Words of content are names,
    literals and units, too.

    A word of the frame around a question (`explain`, `way`, `find`) may stand on one side. So may the sort of answer
    (`city`, `year`), unless it narrows the word beside it or owns what is asked about (`which city has the highest
    rent`).
    """

    name = "residual"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both questions are about the same words."""
        if not (asked.content and cached.content) and _keys(asked) != _keys(cached):
            return "no word says what both are about"
        ours, theirs = ([key for key in left if key not in SPOKEN] for left in unmatched_words(asked, cached))
        if (
            not _frames(asked).issuperset(ours)
            or not _frames(cached).issuperset(theirs)
            or (ours and theirs and not _apart(ours, theirs, cached) and not _apart(theirs, ours, asked))
            or (_defines(asked) and _asks_for_one(theirs, cached))
            or (_defines(cached) and _asks_for_one(ours, asked))
        ):
            return f"asks also about {in_words(ours, asked)}; the answer is also about {in_words(theirs, cached)}"
        return None


def _keys(read: Profile) -> list[str]:
    return [token.key for token in read.tokens]


def _apart(sorts: list[str], orders: list[str], ordering: Profile) -> bool:
    """Return True if one question has sorts of answers more, and the other an order that opens it: `which city is the
    capital`, `name the capital`.
    """
    opening = next(token.key for token in ordering.tokens if is_content(token))
    return _SORTS.issuperset(sorts) and orders == [opening] and opening in _NAMING


@read_once
def _defines(read: Profile) -> bool:
    """Return True if a question asks what one word means: `what is a river`, `what are rivers`."""
    keys = [token.key for token in read.tokens if token.key not in _ARTICLES and token.key not in SPOKEN]
    return len(keys) == 3 and keys[:2] == ["what", "be"] and sum(read.content.values()) == 1


def _asks_for_one(more: list[str], read: Profile) -> bool:
    """Return True if a question asks for a thing, and not for what it is: by the words that it has more, such as `name`
    and `find`, or by `tell me a`.
    """
    if any(one.key == "tell" and after.key in _ARTICLES for one, after in pairwise(read.tokens)):
        return True
    return bool(more) and _EXPLAINING.isdisjoint(more) and not (_FRAMING | _ORDERS).isdisjoint(more)


@read_once
def _frames(read: Profile) -> frozenset[str]:
    """Return the keys of a question that ask for nothing more, wherever they stand in it."""
    found, counted = set[str](), set[str]()
    tokens = read.tokens
    opens = True  # no word of content yet in this sentence
    for at, token in enumerate(tokens):
        key, opened = token.key, opens or token.starts
        opens = opened and not is_content(token)
        if token.kind != "word" or _is_name(token):
            continue
        beside = (*tokens[at - 1 : at], *tokens[at + 1 : at + 2])
        frames = (
            key in _FRAMING
            or (key in _ORDERS and opened)
            or (key in _SORTS and not any(_narrows(neighbour) for neighbour in beside) and not _owns(tokens, at))
        )
        (found if frames else counted).add(key)
    return frozenset(found - counted)


def _owns(tokens: Sequence[Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].key == _HAVE


def _narrows(beside: Token) -> bool:
    """Return True if a word beside makes one thing with it, as in `a city map` and `the interest rate`."""
    return is_content(beside) and beside.key not in _FRAMING and beside.key not in _ORDERS
