"""The health of the model that a worker holds: whether it may be asked, and what its calls came to."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import Unavailable, Unparsable
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.ports import Completion, NotAsked, ProviderBusy
from headrace_workers.features.generation.breaker import Breaker, after_failure, after_nothing, after_success
from headrace_workers.features.generation.engines.remote.failures import CutByDeadline
from headrace_workers.features.generation.known_breakers import KnownBreakers
from headrace_workers.features.generation.store.breakers import Breakers, Calls, Change, Health
from headrace_workers.features.generation.store.model_generations import ModelGenerations

_LOOK_EVERY: Final = 0.25  # seconds for which a worker believes what it read
_TELL_EVERY: Final = 5.0  # seconds between two notes of how many calls there were
_PROBE_SECONDS: Final = 60.0  # that a probe may take, where nothing bounds its call
_HALF_OPEN_SECONDS: Final = 1.0  # until a call looks again, while another one probes
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

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._breakers = ledger.of(Breakers)
        self._known = KnownBreakers(ledger, monotonic, look_every=_LOOK_EVERY)
        self._generations = ledger.of(ModelGenerations)
        self._model = model
        self._returned: str | None = None
        self._monotonic = monotonic
        self._chance = chance
        self._lock = threading.Lock()
        self._calls = Calls()
        self._told_at = monotonic()
        self._counts_named_until = float("-inf")

    def permit(self, probe_seconds: float | None = None, tenant: str = "") -> Permit:
        """Return whether the model may be asked. A permit that `probes` is for one caller alone, for so long. Jobs of
        another tenant than the last that probed go first.
        """
        health, now = self._look()
        breaker = health.breaker
        if breaker.open_until is None:
            return Permit()
        if wait := breaker.opens_in(now, tenant):
            return Permit(wait / 1000, reason=breaker.reason)
        lease_ms = int((probe_seconds or _PROBE_SECONDS) * 1000)
        try:
            if self._breakers.take_probe(self._model, lease_ms, tenant):
                return Permit(probes=True)
        except Unavailable:
            return Permit()
        self._known.forget()
        return Permit(_HALF_OPEN_SECONDS, reason=breaker.reason)

    def barred(self) -> float:
        """Return for how many seconds nobody may ask the model, except for a call that probes it."""
        health, now = self._look()
        if health.breaker.open_until is None:
            return 0.0
        return max(_HALF_OPEN_SECONDS, health.breaker.opens_in(now) / 1000)

    def drill(self) -> str | None:
        """Return the fault that a drill injects at the moment."""
        return self._look()[0].drill

    def note(self, answers: Sequence[object], ms: float, *, probed: bool) -> None:
        """Note what the answers of a call came to. An error that has nothing to do with the model counts as neither."""
        failures = [each for each in answers if isinstance(each, HeadraceError) and _is_failure(each)]
        answered = sum(not isinstance(each, HeadraceError) for each in answers)
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
                self._follow(partial(_failed, error=error, probed=probed, jitter=self._chance()))
            if answered and not failures and (probed or self._known.last(self._model) != Breaker()):
                self._follow(lambda breaker, _: after_success(breaker))
            elif probed and not failures:
                self._follow(after_nothing)
            self._tell()
            sources = [each.remote for each in answers if isinstance(each, Completion) and each.remote]
            self._saw([each.model for each in sources])
            self._name_absurd_counts([each.disbelieved for each in sources if each.disbelieved is not None])
        except Unavailable as error:
            log("models", logging.WARNING, Action.UNAVAILABLE, f"a model's health was not noted: {error}")

    def _saw(self, returned: Sequence[str]) -> None:
        """Note the names under which the provider answered, where they are not those of the call before. The step that
        keeps an answer notes its name once more, in the transaction that does: judges keep none.
        """
        for name in returned:
            if name != self._returned:
                self._generations.saw(self._model, name)
                self._returned = name

    def _name_absurd_counts(self, counts: Sequence[int]) -> None:
        """Let `headrace status` name a provider that counts more tokens than a call may have."""
        if not counts or self._monotonic() < self._counts_named_until:
            return
        self._counts_named_until = self._monotonic() + _TELL_EVERY
        reason = f"its provider counted {max(counts):,} tokens, more than the call may have: the most is charged"
        self._ledger.tell("models", f"model {self._model}:", {"usage": reason})

    def _follow(self, change: Callable[[Breaker, int], Breaker]) -> None:
        found = self._breakers.follow(self._model, change)
        self._known.note(self._model, found.after, found.now)
        _log(self._model, found)

    def _look(self) -> tuple[Health, int]:
        """Return the health, and the ledger's time (ms). The model may be asked where the ledger does not answer."""
        unknown = Health(Breaker(), None, 0)
        try:
            known, now = self._known.look()
        except Unavailable:
            return unknown, 0
        return known.get(self._model, unknown), now

    def _tell(self) -> None:
        """Add the calls to the ledger's, now and then."""
        with self._lock:
            if not self._calls.calls or self._monotonic() - self._told_at < _TELL_EVERY:
                return
            found, self._calls, self._told_at = self._calls, Calls(), self._monotonic()
        self._breakers.add_calls(self._model, found)


def _is_failure(error: HeadraceError) -> bool:
    if error.category is not Category.REROUTABLE:
        return False
    if isinstance(error, NotAsked | Unparsable | CutByDeadline):  # not asked; it answered; nobody let it answer
        return False
    return not isinstance(error, ProviderBusy) or not error.is_sure or (error.after or 0) >= _HARD_SECONDS


def _failed(breaker: Breaker, now: int, *, error: HeadraceError, probed: bool, jitter: float) -> Breaker:
    wish = error.after if isinstance(error, ProviderBusy) and error.is_sure else None
    until = None if wish is None else now + int(wish * 1000)
    return after_failure(breaker, now, reason_of(error), probed=probed, until=until, jitter=jitter)


def _log(model: str, change: Change) -> None:
    before, after = change.before.state(change.now), change.after.state(change.now)
    if after == "open" and change.before.open_until is None:
        log("models", logging.WARNING, Action.MODEL_DOWN, f"its breaker opened: {change.after.reason}", model=model)
    elif after == "closed" and before != "closed":
        log("models", logging.INFO, Action.MODEL_UP, "its breaker closed: it answers again", model=model)
