"""Words that both questions have: how often each has them, and who owns or does what."""

from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, in_words, read_once
from headrace_workers.features.cache.guards.word_lists import words_of

_FIRST: Final = words_of("i me my mine we us our ours")
_CLOSE: Final = words_of(
    """wife husband son daughter mother father mom mum dad parent child kid baby brother sister friend partner
    boss employer employee landlord tenant neighbor neighbour teacher student doctor grandmother grandfather cousin"""
)


class SharedWords:
    """Refuses a word that one question has twice and the other once, and persons in another order.

    `Can I use my wife's card` and `can my wife use my card` have the same persons, who do different things.
    """

    name = "shared words"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the shared words are as many, and the persons in one order."""
        if asked.content != cached.content:
            other = [key for key, n in asked.content.items() if cached.content.get(key, n) != n]
            if other:
                return f"names {in_words(other, asked)} more or less often than the question that was answered"
        ours, theirs = _persons(asked), _persons(cached)
        if ours != theirs and sorted(map(_bare, ours)) == sorted(map(_bare, theirs)):
            return "its persons stand in another order"
        return None


def _bare(person: str) -> str:
    return person.removesuffix("'s")


@read_once
def _persons(read: Profile) -> tuple[str, ...]:
    """Return the persons in order, owners marked, where someone beside the asker is named; the asker is one of them."""
    found: list[str] = []
    for token in read.tokens:
        if token.key == "'s" and found:
            found[-1] += "'s"
        elif token.key in _FIRST:
            found.append("i")
        elif token.kind == "word" and token.key in _CLOSE:
            found.append(token.key)
    return tuple(found) if any(_bare(each) != "i" for each in found) else ()
