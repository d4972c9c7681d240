"""A generator that follows its model's breaker: it asks the model only while that allows it, and notes what each call
came to. So every step that asks a model, whatever it asks, opens and closes the same breaker.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ports import Completion, Generator, HasProvider, NotAsked, Request
from headrace_workers.core.wrapped_generator import WrappedGenerator
from headrace_workers.features.generation.drilled import Answers, Drilled
from headrace_workers.features.generation.engines.remote.failures import RemoteFailed, ServerFailed
from headrace_workers.features.generation.model_health import ModelHealth, Permit


class BreakerIsOpen(NotAsked):
    """A call that was not made, since its model's breaker is open. `after` is in how many seconds the model is asked
    again.
    """


class MonitoredGenerator(WrappedGenerator):
    """A generator whose breaker is kept by `health`. As thread-safe as `inner`. `monotonic` measures its calls."""

    def __init__(self, inner: Generator, health: ModelHealth, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._health = health
        self._monotonic = monotonic

    @property
    def provider(self) -> str | None:
        """Return whose machine answers; None for this one."""
        return self._inner.provider if isinstance(self._inner, HasProvider) else None

    @property
    def urgent(self) -> "MonitoredGenerator":
        """Return the same for urgent work."""
        return MonitoredGenerator(self._inner.urgent, self._health, self._monotonic)

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all; each is a BreakerIsOpen where the model may not be asked. A drill's fault comes in its place."""
        permit = self._health.permit(_longest(requests), _tenant(requests))
        if permit.wait:
            return [self._open(permit) for _ in requests]
        if not permit.probes and self.provider is not None:  # a model of this machine is asked at once
            requests = [replace(each, barred=self._health.barred) for each in requests]
        asked: Answers = Drilled(fault) if (fault := self._health.drill()) else self._inner
        begun = self._monotonic()
        found = asked.generate(requests)
        self._health.note(found, (self._monotonic() - begun) * 1000, probed=permit.probes)
        if permit.probes:  # one that failed has opened the breaker: its model is not asked once more
            found = [RemoteFailed(reason_of(each)) if isinstance(each, ServerFailed) else each for each in found]
        return found

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Return the probabilities of the choices after each prompt, or a BreakerIsOpen for each."""
        permit = self._health.permit()
        if permit.wait:
            return [self._open(permit) for _ in prompts]
        if fault := self._health.drill():
            drilled = Drilled(fault).generate([Request(each, Sampling()) for each in prompts])
            self._health.note(drilled, 0, probed=permit.probes)
            return [each for each in drilled if isinstance(each, HeadraceError)]
        begun = self._monotonic()
        found: Sequence[tuple[float, ...] | HeadraceError] = ()
        try:
            found = self._inner.choice_probabilities(prompts, choices)
        finally:  # a probe that raised came to nothing
            self._health.note(found, (self._monotonic() - begun) * 1000, probed=permit.probes)
        return list(found)

    def _open(self, permit: Permit) -> BreakerIsOpen:
        reason = f"{self.alias} was not asked: its breaker is open after {permit.reason or 'failures'}"
        return BreakerIsOpen(reason, after=permit.wait, is_sure=False)


def _tenant(requests: Sequence[Request]) -> str:
    """Return whose calls these are; nothing where they are of several tenants."""
    tenants = {each.tenant or "" for each in requests}
    return tenants.pop() if len(tenants) == 1 else ""


def _longest(requests: Sequence[Request]) -> float | None:
    """Return how long these calls may take; None where nothing bounds one of them."""
    bounds = [each.at_most for each in requests if each.at_most is not None]
    return max(bounds, default=None) if len(bounds) == len(requests) else None
