"""Time and manner of the verb, and the person: was is not is, should is not can, her is not his."""

from itertools import pairwise
from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, in_words, read_once

_TIMES: Final = {
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
_DUTIES: Final = {
    "can": "can",
    "could": "can",
    "should": "should",
    "ought": "should",
    "must": "should",
    "may": "can",
    "might": "can",
    "allow": "can",
    "permit": "can",
    "need": "should",
    "require": "should",
    "necessary": "should",
    "mandatory": "should",
    "obligatory": "should",
}
_PERSONS: Final = {
    "my": "I",
    "mine": "I",
    "our": "I",
    "your": "you",
    "yours": "you",
    "he": "he",
    "him": "he",
    "his": "he",
    "she": "she",
    "her": "she",
    "hers": "she",
}
_NAMED: Final = frozenset({*_TIMES, *_DUTIES, *_PERSONS})
# `How do I`, `how do you` and `how do we` ask for the same; `am I` and `are you` do not.
_WHO_IS: Final = {"i": "I", "we": "I", "you": "you"}


class Manner:
    """Refuses another tense, another duty, another person, where both questions name one."""

    name = "manner"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where none is named, on one side, or the same on both."""
        # `Who is the author` and `who was it written by` ask the same: the passive has a time of its own.
        times = (_times,) if _passive(asked) == _passive(cached) else ()
        for named in (*times, _duties, _persons):
            ours, theirs = named(asked), named(cached)
            if not ours or not theirs or ours & theirs:
                continue
            if named is _times and "past" not in ours | theirs and _lasts(asked) and _lasts(cached):
                continue  # `how long will it keep`, `how long does it keep`; `why won't it`, `why doesn't it start`
            return f"asks with {in_words(sorted(ours))}; the answer is for {in_words(sorted(theirs))}"
        return None


@read_once
def _times(read: Profile) -> set[str]:
    return _named(read, _TIMES)


@read_once
def _duties(read: Profile) -> set[str]:
    return _named(read, _DUTIES)


@read_once
def _persons(read: Profile) -> set[str]:
    return _named(read, _PERSONS) | _subjects(read)


def _named(read: Profile, classes: dict[str, str]) -> set[str]:
    return {manner for text, key in _words(read) if (manner := classes.get(text) or classes.get(key))}


@read_once
def _words(read: Profile) -> list[tuple[str, str]]:
    """Return each word that names one of these, with its key."""
    if read.words.isdisjoint(_NAMED):
        return []
    words = [(token.text.lower(), token.key) for token in read.tokens if token.kind == "word"]
    return [word for word in words if word[0] in _NAMED or word[1] in _NAMED]


@read_once
def _passive(read: Profile) -> bool:
    return "by" in read.keys


def _lasts(read: Profile) -> bool:
    """Return True if the answer to the question is as true tomorrow."""
    return "how" in read.keys or {"why", "not"} <= read.keys


def _subjects(read: Profile) -> set[str]:
    """Return the persons that `am I`, `are you` ask about."""
    if "be" not in read.keys:
        return set()
    return {
        _WHO_IS[word]
        for before, token in pairwise(read.tokens)
        if before.key == "be" and (word := token.text.lower()) in _WHO_IS
    }
