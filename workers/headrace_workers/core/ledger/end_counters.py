"""Counters of ended jobs and units, for metrics. Each look at the ledger counts what ended since the look before, and
adds it to the kept sums. So a counter never falls when jobs are deleted, and no look reads all jobs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.counts import ends_between


@dataclass(frozen=True, slots=True)
class EndCounter:
    """A counter of ended jobs or units; `name` is without `_total`. `between(connection, after, until)` returns how
    many ended after a time and until another (ms), by the values of the labels.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]
    between: Callable[[Connection, int, int], Mapping[tuple[str, ...], int]]


_JOBS: Final = EndCounter(
    "headrace_jobs_ended", "Jobs that ended, since they are counted.", ("state", "kind"), ends_between
)

Sums = dict[str, list[list[Any]]]  # JSON: by the name of a counter, rows of the labels' values and the sum


def all_end_counters() -> tuple[EndCounter, ...]:
    """Return the counters of the core and of features."""
    return (_JOBS, *(counter for feature in installed() for counter in feature.end_counters()))


def added(connection: Connection, before: Mapping[str, Sequence[Sequence[Any]]], after: int, until: int) -> Sums:
    """Return the sums before with what ended after a time and until another (ms)."""
    sums: Sums = {}
    for counter in all_end_counters():
        found = {tuple(labels): number for *labels, number in before.get(counter.name, ())}
        for labels, number in counter.between(connection, after, until).items():
            found[labels] = found.get(labels, 0) + number
        sums[counter.name] = [[*labels, number] for labels, number in sorted(found.items())]
    return sums
