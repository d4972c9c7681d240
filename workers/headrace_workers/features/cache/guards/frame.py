"""Words of the frame around a question, and words for the sort of answer: both have a list beside the code."""

from typing import Final

from headrace_workers.features.cache.guards.lists import lines_of
from headrace_workers.features.cache.guards.stems import stem


def _stems(name: str) -> frozenset[str]:
    return frozenset(form for line in lines_of(name) for word in line.split() for form in (word, stem(word)))


SPOKEN: Final = _stems("spoken")
SORTS: Final = _stems("sorts") - SPOKEN
