"""The quality of a ranking by known right answers: nDCG and recall of its beginning, reciprocal rank. Pure.

Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002), with a gain of 1 for what is right.
"""

import math
from collections.abc import Collection, Sequence


def ndcg(ranking: Sequence[str], right: Collection[str], k: int = 10) -> float:
    """Return nDCG from 0 to 1: right answers count more the earlier they come; repetitions count nothing."""
    _refuse_none(right)
    gained = sum(1.0 / math.log2(place + 2) for place, each in enumerate(_once(ranking)[:k]) if each in right)
    return gained / sum(1.0 / math.log2(place + 2) for place in range(min(k, len(set(right)))))


def recall(ranking: Sequence[str], right: Collection[str], k: int = 10) -> float:
    """Return the share of right answers that are among the first k."""
    _refuse_none(right)
    return len(set(_once(ranking)[:k]) & set(right)) / len(set(right))


def reciprocal_rank(ranking: Sequence[str], right: Collection[str]) -> float:
    """Return 1 / the place of the first right answer; 0 without one."""
    place = first_right(ranking, right)
    return 0.0 if place is None else 1.0 / place


def first_right(ranking: Sequence[str], right: Collection[str]) -> int | None:
    """Return the place, from 1, of the first right answer, or None; a repetition takes no place."""
    _refuse_none(right)
    return next((place for place, each in enumerate(_once(ranking), start=1) if each in right), None)


def _refuse_none(right: Collection[str]) -> None:
    if not right:
        raise ValueError("nothing is right: such a question measures nothing")


def _once(ranking: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ranking))
