"""The health of the model that a worker holds: whether it may be asked, and what its calls came to."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import Unavailable, Unparsable
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.ports import Completion
from headrace_workers.features.generation.breaker import Breaker, after_failure, after_success
from headrace_workers.features.generation.engines.remote.failures import ProviderBusy
from headrace_workers.features.generation.store.breakers import Breakers, Calls, Change, Health

_LOOK_EVERY: Final = 0.25  # seconds for which a worker believes what it read
_TELL_EVERY: Final = 5.0  # seconds between two notes of how many calls there were
_PROBE_SECONDS: Final = 60.0  # that a probe may take, where nothing bounds its call
_HARD_SECONDS: Final = 10.0  # a provider that asks for less is busy, and not away


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to whether a model may be asked: in `wait` seconds, or now, which may be a probe."""

    wait: float = 0.0
    probes: bool = False
    reason: str | None = None


class ModelHealth:
    """The health of one model, which all workers that hold it share by the ledger. Thread-safe.

    Where the ledger does not answer, the model is asked: a worker without a ledger writes no answer anyway.
    """

    def __init__(self, ledger: Ledger, model: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._breakers = ledger.of(Breakers)
        self._model = model
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known = Health(Breaker(), None, 0)
        self._known_at = float("-inf")
        self._calls = Calls()
        self._told_at = monotonic()

    def permit(self, probe_seconds: float | None = None) -> Permit:
        """Return whether the model may be asked. A permit that `probes` is for one caller alone, for so long."""
        health, age_ms = self._look()
        breaker = health.breaker
        if breaker.open_until is None:
            return Permit()
        if wait := breaker.opens_in(health.now + age_ms):
            return Permit(wait / 1000, reason=breaker.reason)
        lease_ms = int((probe_seconds or _PROBE_SECONDS) * 1000)
        try:
            if self._breakers.take_probe(self._model, lease_ms):
                return Permit(probes=True)
        except Unavailable:
            return Permit()
        self._forget()
        return Permit(1.0, reason=breaker.reason)

    def drill(self) -> str | None:
        """Return the fault that a drill injects at the moment."""
        return self._look()[0].drill

    def note(self, completions: Sequence[Completion | HeadraceError], ms: float, *, probed: bool) -> None:
        """Note what a call came to. An error that has nothing to do with the model counts as neither."""
        failures = [each for each in completions if _is_failure(each)]
        answered = sum(isinstance(each, Completion) for each in completions)
        with self._lock:
            found = self._calls
            self._calls = Calls(
                found.calls + answered + len(failures),
                found.failures + len(failures),
                found.ms + int(ms) * answered,
                max(found.slowest_ms, int(ms)) if answered else found.slowest_ms,
            )
        try:
            for error in failures:
                assert isinstance(error, HeadraceError)  # noqa: S101 - see above
                self._follow(partial(_failed, error=error, probed=probed))
            if answered and not failures and (probed or self._known.breaker != Breaker()):
                self._follow(lambda breaker, _: after_success(breaker))
            elif probed and not failures:  # it ended with neither: another may probe
                self._follow(lambda breaker, _: replace(breaker, probed_until=None))
            self._tell()
        except Unavailable as error:
            log("models", logging.WARNING, Action.UNAVAILABLE, f"a model's health was not noted: {error}")

    def _follow(self, change: Callable[[Breaker, int], Breaker]) -> None:
        found = self._breakers.follow(self._model, change)
        with self._lock:
            self._known = replace(self._known, breaker=found.after, now=found.now)
            self._known_at = self._monotonic()
        _log(self._model, found)

    def _look(self) -> tuple[Health, int]:
        """Return the health as it was read, and how old that is (ms)."""
        with self._lock:
            age = self._monotonic() - self._known_at
            if age <= _LOOK_EVERY:
                return self._known, int(age * 1000)
        try:
            found = self._breakers.all()
        except Unavailable:
            return Health(Breaker(), None, 0), 0
        with self._lock:
            self._known = found.get(self._model, Health(Breaker(), None, 0))
            self._known_at = self._monotonic()
            return self._known, 0

    def _forget(self) -> None:
        with self._lock:
            self._known_at = float("-inf")

    def _tell(self) -> None:
        """Add the calls to the ledger's, now and then."""
        with self._lock:
            if not self._calls.calls or self._monotonic() - self._told_at < _TELL_EVERY:
                return
            found, self._calls, self._told_at = self._calls, Calls(), self._monotonic()
        self._breakers.add_calls(self._model, found)


def _is_failure(completion: Completion | HeadraceError) -> bool:
    if not isinstance(completion, HeadraceError) or completion.category is not Category.REROUTABLE:
        return False
    if isinstance(completion, Unparsable):  # it answered
        return False
    return not isinstance(completion, ProviderBusy) or (completion.after or _HARD_SECONDS) >= _HARD_SECONDS


def _failed(breaker: Breaker, now: int, *, error: HeadraceError, probed: bool) -> Breaker:
    wish = error.after if isinstance(error, ProviderBusy) else None
    until = None if wish is None else now + int(wish * 1000)
    return after_failure(breaker, now, reason_of(error), probed=probed, until=until)


def _log(model: str, change: Change) -> None:
    before, after = change.before.state(change.now), change.after.state(change.now)
    if after == "open" and change.before.open_until is None:
        log("models", logging.WARNING, Action.MODEL_DOWN, f"its breaker opened: {change.after.reason}", model=model)
    elif after == "closed" and before != "closed":
        log("models", logging.INFO, Action.MODEL_UP, "its breaker closed: it answers again", model=model)
