"""Kinds of differences that nobody named: words about something that only one of the questions has."""

from typing import Final

from headrace_workers.guards.leftovers import leftovers
from headrace_workers.guards.lists import words_of
from headrace_workers.guards.profile import Profile, said
from headrace_workers.guards.small_words import SOFT
from headrace_workers.guards.stems import stem

_SOFT: Final = SOFT | {stem(word) for word in SOFT}


class Residual:
    """Refuses where one question has a word of content that the other lacks in any form.

    A word that only says what sort of answer is wanted (`city`, `name`, `explain`) may stand on one side, unless the
    other side has another such word in its place.
    """

    name = "residual"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where both questions are about the same words."""
        ours, theirs = leftovers(asked, cached)
        if not ours and not theirs:
            return None
        if all(key in _SOFT for key in (*ours, *theirs)) and not (_sorts(ours) and _sorts(theirs)):
            return None
        return f"asks also about {said(ours, asked)}; the answer is also about {said(theirs, cached)}"


def _sorts(left: list[str]) -> bool:
    return any(key not in _SPOKEN for key in left)


# Openings: against each other, and against a sort, they say nothing.
_SPOKEN: Final = frozenset(
    stem(word)
    for word in words_of(
        """say give show list explain describe definition define mean meaning know find name called known answer
    information info detail overview introduction help need want would like make take go use do exist about
    possible able calculate compute recommend suggest"""
    )
)
