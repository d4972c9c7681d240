"""Names and numbers of a sentence that the evidence mentions elsewhere, not together with the rest of the sentence."""

from collections.abc import Iterable
from typing import Final

from headrace_workers.features.judging.groundedness.evidence import Evidence
from headrace_workers.features.judging.groundedness.reading import Read

_MOST: Final = 2  # of either kind that count
_MOST_KEYS: Final = 100  # of a sentence that are looked at


def apart(own: Iterable[str], said: Read, names: frozenset[str], evidence: Evidence) -> float:
    """Return the largest count, over these names or numbers, of what the sentence mentions with it and the evidence
    mentions elsewhere. Counted are other numbers and names, and words of one sentence of the evidence alone: 1 for
    each, at most two, less a half for each that stands with it. Return 0 where nothing can be said.
    """
    standing = evidence.standing
    words = {key for key in said.words - evidence.names if len(standing.get(key, ())) == 1}
    found: list[float] = []
    for key in sorted(own)[:_MOST_KEYS]:
        # Two names in one sentence are told of together: neither is a sign where the other must stand.
        others = (words | said.numbers) if key in names else (words | said.numbers | names)
        signs = [standing[each] for each in sorted(others - {key})[:_MOST_KEYS] if each in standing]
        if key in standing and signs:
            where = evidence.told_of(key)
            beside = sum(not where.isdisjoint(each) for each in signs)
            found.append(min(_MOST, len(signs) - beside) - min(_MOST, beside) / 2)
    return max(found, default=0.0)
