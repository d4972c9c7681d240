"""Size and composition of groups. Pure.

A group ends at its number of steps, at its bytes, or at its token budget. The budget is what fits the time quantum,
and it is learnt in proportion from each group that the budget ended or that took longer than the quantum. Small groups
teach nothing: that they were quick says nothing about large ones.
"""

from collections.abc import Iterator, Sequence
from typing import Any

FIRST_BUDGET = 4_096  # tokens, before anything is known of a group
LEAST_BUDGET = 256
LARGEST_BUDGET = 1_000_000
LARGEST_BYTES = 16 * 1024**2  # of jobs and events that a worker reads at once
_BATCH = 16  # rows: a model's batches have so many, or a multiple
_AIM = 0.9  # of the quantum
_SLOWER, _FASTER = 0.25, 2.0  # bounds of one lesson


def within_budget(costs: Sequence[int], budget: int) -> int:
    """Return how many of these, in order, fit the budget: always at least the first."""
    spent = 0
    for count, cost in enumerate(costs):
        spent += cost
        if spent > budget and count > 0:
            return count
    return len(costs)


def in_parts(steps: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield these steps, in order, in as few parts as one worker may read at once."""
    while steps:
        size = within_budget([step.read_bytes for step in steps], LARGEST_BYTES)
        yield tuple(steps[:size])
        steps = steps[size:]


def alike(rows: Sequence[Any], limit: int, budget: int) -> list[Any]:
    """Return the first of these steps, which are in order of urgency, and the steps that go best with it: at most
    `limit`, and within the budget.

    A model forwards only the shortest prompt of a batch at once, and the rest of longer prompts step by step: prompts
    of like length made 1.2 times the tokens a second of mixed ones. So steps of one urgency lie in order of size, and a
    whole block of them is taken, which leaves no gap that a later group would straddle. A block has whole batches,
    since a step of a batch costs much the same for one row as for sixteen.
    """
    if len(rows) <= limit and sum(row.tokens for row in rows) <= budget:
        return list(rows)
    first, *others = rows
    peers = [row for row in others if (row.rank, row.due) == (first.rank, first.due)]
    by_size = sorted([first, *peers], key=lambda row: row.tokens)
    place = by_size.index(first)
    for count in range(min(limit, len(by_size)) // _BATCH * _BATCH, 0, -_BATCH):
        begin = min(place - place % count, len(by_size) - count)
        block = by_size[begin : begin + count]
        if sum(row.tokens for row in block) <= budget:
            return [first, *(row for row in block if row is not first)]
    peers.sort(key=lambda row: abs(row.tokens - first.tokens))
    nearest = [first, *peers, *others[len(peers) :]][:limit]
    return nearest[: within_budget([row.tokens for row in nearest], budget)]


def of_one_beginning(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the steps that are as urgent as the first and whose prompts begin with the same text or share no
    beginning, if they make a batch. Else return all: a model runs the rest together. `steps` are in order of urgency.
    """
    first = rows[0]
    one = (first.rank, first.due, first.prefix)
    same = [row for row in rows if (row.rank, row.due, row.prefix) == one]
    return same if len(same) >= _BATCH else rows


def next_budget(tokens: int, seconds: float, quantum: float) -> int:
    """Return the budget of the next group, learnt from a group of so many tokens that took `seconds`."""
    factor = min(_FASTER, max(_SLOWER, _AIM * quantum / max(seconds, 1e-3)))
    return int(min(LARGEST_BUDGET, max(LEAST_BUDGET, tokens * factor)))
