"""Guards of numbers, dates, negation, tense and repeated words."""

from itertools import pairwise
from typing import Final

from headrace_workers.text.profile import Profile, in_words, of_kinds, read_once
from headrace_workers.text.tokens import Token
from headrace_workers.text.words import DENIALS, denies


class Numbers:
    """Refuses other numbers, and the same numbers in another order."""

    name = "numbers"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all numbers agree in order."""
        ours, theirs = _numbers(asked), _numbers(cached)
        # `one egg` is `an egg`, and `one` may be anybody; `2 years or 1 year` is another order.
        if sorted(ours) != sorted(theirs) and "1" in (*ours, *theirs):
            ours, theirs = _without_articles(asked), _without_articles(cached)
        return (
            None
            if ours == theirs
            else f"asks with the numbers {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _numbers(read: Profile) -> list[str]:
    return of_kinds(read).get("number", [])


@read_once
def _without_articles(read: Profile) -> list[str]:
    return [
        token.key
        for token, after in pairwise((*read.tokens, None))
        if token is not None and token.kind == "number" and not _is_article(token, after)
    ]


def _is_article(token: Token, after: Token | None) -> bool:
    """Return True for a number that is an article: `one egg` is `an egg`, `1 kg` is `a kilo`; `type 1` is not
    `type`.
    """
    return token.text.lower() == "one" or (token.key == "1" and after is not None and after.kind == "unit")


class Dates:
    """Refuses another date, day, month, season or time."""

    name = "dates"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same dates are named."""
        ours, theirs = _dates(asked), _dates(cached)
        return (
            None
            if ours == theirs
            else f"asks about {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _dates(read: Profile) -> list[str]:
    return sorted(of_kinds(read).get("date", ()))


class Negation:
    """Refuses where one question denies more often than the other; `not safe` and `unsafe` deny equally."""

    name = "negation"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both deny, or neither."""
        ours, theirs = _denials(asked, cached), _denials(cached, asked)
        if len(ours) == len(theirs):
            return None
        mine, other = in_words(ours, asked), in_words(theirs, cached)
        return f"denies with {mine}; the answer is for a question that denies with {other}"


def _denials(read: Profile, other: Profile) -> list[str]:
    turned = [key for key in read.content if key not in other.content and denies(key, other.content)]
    # `non` stands alone before what it denies: the tokens of `non-refundable` are two.
    return [*_denying(read), *turned, *["non"] * read.content.get("non", 0)]


@read_once
def _denying(read: Profile) -> list[str]:
    return [key for key in of_kinds(read).get("word", ()) if key in DENIALS]


_TENSES: Final = {
    "was": "past",
    "were": "past",
    "did": "past",
    "had": "past",
    "is": "present",
    "are": "present",
    "does": "present",
    "do": "present",
    "will": "future",
}


class Tense:
    """Refuses another tense, where both questions have one."""

    name = "tense"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the tenses agree, or where the passive on one side has its own."""
        if ("by" in asked.keys) != ("by" in cached.keys):
            return None  # `who is the author`, `who was it written by`
        ours, theirs = _tenses(asked), _tenses(cached)
        if not ours or not theirs or ours & theirs:
            return None
        if "past" not in ours | theirs and _lasts(asked) and _lasts(cached):
            return None  # `how long will it keep`, `how long does it keep`; `why won't it`, `why doesn't it start`
        return f"asks with {in_words(sorted(ours))}; the answer is for {in_words(sorted(theirs))}"


@read_once
def _tenses(read: Profile) -> set[str]:
    return {tense for token in read.tokens if token.kind == "word" and (tense := _TENSES.get(token.text.lower()))}


def _lasts(read: Profile) -> bool:
    """Return True if the answer to the question is as true tomorrow."""
    return "how" in read.keys or {"why", "not"} <= read.keys


class Repeats:
    """Refuses a word that one question has twice and the other once."""

    name = "repeats"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the shared words are as many."""
        if asked.content != cached.content:
            other = [key for key, count in asked.content.items() if cached.content.get(key, count) != count]
            if other:
                return f"names {in_words(other, asked)} more or less often than the question that was answered"
        return None
