"""A generator with an injected fault, for drills of an outage: its model is not asked."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from headrace_schemas import HeadraceError
from headrace_workers.core.ports import Completion, GivenUp, ProviderBusy, Request, Unseen
from headrace_workers.features.generation.engines.remote.failures import RemoteFailed

DOWN: Final = "down"
HANG: Final = "hang"
BUSY: Final = "429"
FAULTS: Final = (DOWN, HANG, BUSY)
HANGS_SECONDS: Final = 10.0  # that a call hangs, where its job's deadline does not end it
BUSY_SECONDS: Final = 30.0
_LOOK_EVERY: Final = 0.1


class InjectedFailure(Unseen, RemoteFailed):
    """The failure of a model in a drill."""


class InjectedBusy(Unseen, ProviderBusy):
    """A busy provider in a drill."""


class Answers(Protocol):
    """The part of a generator that answers."""

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all; the i-th item belongs to the i-th request."""


class Drilled:
    """A generator whose calls all come to this fault."""

    def __init__(
        self, fault: str, sleep: Callable[[float], object] = time.sleep, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fault = fault
        self._sleep = sleep
        self._monotonic = monotonic

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Fail all requests as a model in such an outage does."""
        if self._fault == HANG:
            return self._hang(requests)
        if self._fault == BUSY:
            return [InjectedBusy("drill: it takes no more calls", after=BUSY_SECONDS) for _ in requests]
        return [InjectedFailure("drill: it could not be reached") for _ in requests]

    def _hang(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        longest = max((min(each.at_most or HANGS_SECONDS, HANGS_SECONDS) for each in requests), default=0.0)
        until = self._monotonic() + longest
        while self._monotonic() < until and not all(each.given_up() for each in requests):
            self._sleep(_LOOK_EVERY)
        late = InjectedFailure(f"drill: no answer began within {longest:g} s")
        return [GivenUp() if each.given_up() else late for each in requests]
