"""Rules for when an index is rebuilt, or recent rows are sorted into its lists."""

from dataclasses import dataclass
from typing import Final

from headrace_workers.features.knowledge.index.state import State


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits before that; the times are for 384 dimensions on one core."""

    exact: int = 4_000  # vectors that are compared one by one, without lists: about 0.3 ms a query
    outside: int = 1_000  # vectors that wait outside of the lists: about 0.07 ms a query
    dead: int = 32  # rows that may always be dead,
    dead_share: float = 0.25  # and this share of all rows at most
    growth: float = 4.0  # how many times the vectors that its centres were learned from lists may hold


DEFAULTS: Final = Limits()


def needs_rebuild(state: State, limits: Limits) -> bool:
    """Return True if it must be rebuilt: it has too many dead rows, too many to compare, or has outgrown its
    centres.
    """
    rows, lists = state.rows, state.lists
    if rows.dead > max(limits.dead, rows.count * limits.dead_share):
        return True
    return rows.living > (limits.exact if lists is None else limits.growth * lists.trained)


def needs_sorting(state: State, limits: Limits) -> bool:
    """Return True if too many rows wait outside of the lists."""
    return state.lists is not None and state.rows.count - state.covered > limits.outside
