"""Time that a run may take before it counts as hung. Pure.

A hung run holds its slot, so it must end; a long answer on a slow machine must not. A bound that is too short kills a
worker in the middle of good work, while a hung run is found at any bound. So every number is generous. A run may take

    longest_run, for every kind of work: a first call loads or compiles, and a machine may swap;
    and a second for each token of its longest job: a model writes them one after another, in every group;
    and _SLOWER times as long as all its tokens take at the speed that was learnt.

The speed is an average of what this process did: tokens by seconds, so that short runs weigh little. Ten times slower
is no hang: others may share the machine, a group that failed is done again in halves, and an answer alone is written at
a tenth of a full batch's speed. Reading is quicker yet, a hundred times: hence the seconds of the longest job. An
answer that ends early counts as the tokens that were written, not as its limit: else a slow model with short answers
looks quick.

Groups are made to fit the quantum (15 s): most bounds are little more than `longest_run`, and a run may be fifty times
slower than usual. Before anything was learnt a job of 300 tokens, alone, may take 25 minutes, one of 4,096 three hours
and a half. The learnt speed is lost with the process, which harms no good run: the first bounds are wide, and a minute
of running weighs as much as the assumed speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_schemas import Output
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.outcome import Done, Dropped, Ended
from headrace_workers.core.pipeline.stage import Weight

_SLOWER: Final = 10.0  # than it was: still no hang
_FIRST_SECONDS: Final = 60.0  # so much running weighs what was supposed before anything was learnt
_REMEMBERED: Final = 7_200.0  # seconds of running: then all that was learnt weighs half


@dataclass(frozen=True, slots=True)
class Pace:
    """Assumptions about a kind of work: its speed (tokens a second), and the time that a token of its longest job may
    take.
    """

    first_speed: float
    seconds_a_token: float


# A large model on a few cores makes a token a second; a small one, fifty. Moderation reads 70,000 and more.
MODEL: Final = Pace(first_speed=5.0, seconds_a_token=1.0)
LIGHT: Final = Pace(first_speed=1_000.0, seconds_a_token=0.0)


def pace_of(weight: Weight) -> Pace:
    """Return the assumptions about work of this weight."""
    return MODEL if weight is Weight.MODEL else LIGHT


class Speed:
    """Speed in tokens a second, as far as it is known."""

    def __init__(self, first: float) -> None:
        self._seconds = _FIRST_SECONDS
        self._tokens = _FIRST_SECONDS * first

    @property
    def tokens_a_second(self) -> float:
        """Return all that was done by all the time that it took; never nothing."""
        return self._tokens / self._seconds

    def learn(self, tokens: int, seconds: float) -> None:
        """Learn from a run that has ended."""
        self._tokens += tokens
        self._seconds += seconds
        if self._seconds > _REMEMBERED:
            self._tokens /= 2
            self._seconds /= 2


def bound(started: Started, pace: Pace, speed: Speed, *, longest_run: float) -> float:
    """Return how many seconds this run may take."""
    longest = max((row.tokens for row in started.steps), default=0)
    written = pace.seconds_a_token * longest
    return longest_run + written + _SLOWER * started.tokens / speed.tokens_a_second


def tokens_done(started: Started, settled: Sequence[StepResult]) -> int:
    """Return how many tokens a run that has ended read and wrote: the model's count, else its whole input.

    Failed items count as none, since nobody knows how far they came.
    """
    tokens = {row.job_id: row.tokens for row in started.steps}
    return sum(
        _done(item, tokens.get(item.job_id, 0)) for item in settled if isinstance(item.outcome, Done | Ended | Dropped)
    )


def _done(item: StepResult, tokens: int) -> int:
    if isinstance(item.event, Output):
        usage = item.event.answer.usage
        return usage.prompt_tokens + usage.completion_tokens
    return tokens
