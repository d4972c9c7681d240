"""Kinds of differences that nobody named: words about something that only one of the questions has."""

from headrace_workers.features.cache.guards.frame import SORTS, SPOKEN
from headrace_workers.features.cache.guards.leftovers import leftovers
from headrace_workers.features.cache.guards.profile import Profile, said


class Residual:
    """Refuses where one question has a word of content that the other lacks in any form.

    A word of the frame around a question (`explain`, `way`, `need`) may stand on one side or on both. One that only
    says what sort of answer is wanted (`city`, `year`) may stand on one side, unless the other side has another such
    word in its place.
    """

    name = "residual"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both questions are about the same words."""
        ours, theirs = ([key for key in left if key not in SPOKEN] for left in leftovers(asked, cached))
        if (ours and theirs) or not all(key in SORTS for key in (*ours, *theirs)):
            return f"asks also about {said(ours, asked)}; the answer is also about {said(theirs, cached)}"
        return None
