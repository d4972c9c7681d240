"""Time and manner of the verb, and the person: was is not is, should is not can, her is not his."""

from typing import Final

from headrace_workers.guards.profile import Profile, said

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
    "i": "I",
    "me": "I",
    "my": "I",
    "mine": "I",
    "we": "I",
    "us": "I",
    "our": "I",
    "you": "you",
    "your": "you",
    "yours": "you",
    "he": "he",
    "him": "he",
    "his": "he",
    "she": "she",
    "her": "she",
    "hers": "she",
}


class Manner:
    """Refuses another tense, another duty, another person, where both questions name one."""

    name = "manner"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where none is named, on one side, or the same on both."""
        # `Who is the author` and `who was it written by` ask the same: the passive has a time of its own.
        times = (_TIMES,) if _passive(asked) == _passive(cached) else ()
        for classes in (*times, _DUTIES, _PERSONS):
            ours, theirs = _named(asked, classes), _named(cached, classes)
            if ours and theirs and not ours & theirs:
                return f"asks with {said(sorted(ours))}; the answer is for {said(sorted(theirs))}"
        return None


def _named(read: Profile, classes: dict[str, str]) -> set[str]:
    found = set()
    for token in read.tokens:
        if token.kind == "word":
            said = classes.get(token.text.lower()) or classes.get(token.key)
            if said:
                found.add(said)
    return found


def _passive(read: Profile) -> bool:
    return any(token.key == "by" for token in read.tokens)
