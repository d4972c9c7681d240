"""The health of models: the breakers as a process knows them, and a generator that follows its model's breaker."""

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import Unavailable, Unparsable
from headrace_schemas.reasons import reason_of, shared_reason_of
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.log import Action, log
from headrace_workers.features.generation.store.breakers import (
    Breaker,
    Breakers,
    Calls,
    Health,
    after_failure,
    after_nothing,
    after_success,
)
from headrace_workers.features.generation.store.model_generations import ModelGenerations
from headrace_workers.models.engines.remote.failures import CutByDeadline, RemoteFailed, ServerFailed
from headrace_workers.models.generator import (
    Abstained,
    Completion,
    Generator,
    GivenUp,
    HasProvider,
    LabelRequest,
    LabelScores,
    NotAsked,
    Request,
    Unseen,
    WrappedGenerator,
)

R = TypeVar("R")
A = TypeVar("A")

_READ_EVERY: Final = 0.5  # seconds between two readings of all breakers
# The same while one of them is not closed: jobs wait for its model until their bridge knows that a probe failed.
_READ_OFTEN: Final = 0.1
_LOOK_EVERY: Final = 0.25  # seconds for which a worker believes what it read
_TELL_EVERY: Final = 5.0  # seconds between two notes of how many calls there were
_PROBE_SECONDS: Final = 60.0  # that a probe may take, where nothing bounds its call
_HALF_OPEN_SECONDS: Final = 1.0  # until a call looks again, while another one probes
_HARD_SECONDS: Final = 10.0  # a provider that asks for less is busy, and not away

HANG: Final = "hang"
BUSY: Final = "429"
FAULTS: Final = ("down", HANG, BUSY)  # that a drill injects
_HANGS_SECONDS: Final = 10.0  # that a call hangs, where its job's deadline does not end it
_BUSY_SECONDS: Final = 30.0


class KnownBreakers:
    """Breakers of a ledger, read every `look_every` seconds at most. Thread-safe."""

    def __init__(
        self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic, *, look_every: float = _READ_EVERY
    ) -> None:
        self._breakers = ledger.of(Breakers)
        self._monotonic = monotonic
        self._look_every = look_every
        self._lock = threading.Lock()
        self._known: Mapping[str, Health] = {}
        self._known_at = float("-inf")
        self._ahead = 0.0  # ms by which the ledger's clock is ahead of ours
        self._notes = 0

    def avoided(self, tenant: str) -> frozenset[str]:
        """Return the models that this tenant may not ask at the moment. While the ledger does not answer, what was read
        last holds.
        """
        known, now = self._last()
        return frozenset(
            model
            for model, health in known.items()
            if health.breaker.opens_in(now) or tenant in health.breaker.open_for(now)
        )

    def barred(self) -> dict[str, frozenset[str] | None]:
        """Return the tenants that may not ask a model at the moment, by model; None stands for all."""
        known, now = self._last()
        found = {
            model: None if health.breaker.opens_in(now) else health.breaker.open_for(now)
            for model, health in known.items()
        }
        return {model: tenants for model, tenants in found.items() if tenants is None or tenants}

    def groups(self) -> dict[str, int]:
        """Return how many groups may be sent to models whose breakers are not closed: none, or one that probes. A model
        that has answered nobody but the tenants that failed alone gets one, too. While the ledger does not answer, what
        was read last holds.
        """
        known, now = self._last()
        return {
            model: 0 if health.breaker.opens_in(now) else 1
            for model, health in known.items()
            if health.breaker.open_until is not None or not health.breaker.answers_others()
        }

    def look(self) -> tuple[Mapping[str, Health], int]:
        """Return the health of the models that ever failed or were drilled, and the ledger's time (ms). Raise
        Unavailable where the ledger must be read, and does not answer.
        """
        with self._lock:
            is_calm = all(
                health.breaker.open_until is None and not health.breaker.singled_out()
                for health in self._known.values()
            )
            if self._monotonic() - self._known_at <= (self._look_every if is_calm else _READ_OFTEN):
                return self._known, self._now()
            notes = self._notes
        found = self._breakers.all()
        with self._lock:
            if self._notes == notes:  # else a change of our own is newer
                self._known, self._known_at = found, self._monotonic()
                self._set_clock(next((health.now for health in found.values()), 0))
            return self._known, self._now()

    def last(self, model: str) -> tuple[Breaker, int]:
        """Return a model's breaker as it is known, however old that is, and the ledger's time (ms)."""
        with self._lock:
            known = self._known.get(model)
            return known.breaker if known else Breaker(), self._now()

    def note(self, model: str, breaker: Breaker, now: int) -> None:
        """Note how this process changed a model's breaker, and when that was by the ledger's clock (ms)."""
        with self._lock:
            known = self._known.get(model)
            self._known = {**self._known, model: Health(breaker, known.drill if known else None, now)}
            self._notes += 1
            self._set_clock(now)

    def forget(self) -> None:
        """Let the next look read the ledger."""
        with self._lock:
            self._known_at = float("-inf")

    def _last(self) -> tuple[Mapping[str, Health], int]:
        try:
            return self.look()
        except Unavailable:
            with self._lock:
                return self._known, self._now()

    def _set_clock(self, now: int) -> None:
        self._ahead = now - self._monotonic() * 1000

    def _now(self) -> int:
        return int(self._monotonic() * 1000 + self._ahead)


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
        if breaker.is_closed(tenant):
            return Permit()
        reason = breaker.of(tenant).reason or breaker.reason
        if wait := breaker.opens_in(now, tenant):
            return Permit(wait / 1000, reason=reason)
        lease_ms = int((probe_seconds or _PROBE_SECONDS) * 1000)
        try:
            if self._breakers.take_probe(self._model, lease_ms, tenant):
                return Permit(probes=True)
        except Unavailable:
            return Permit()
        self._known.forget()
        return Permit(_HALF_OPEN_SECONDS, reason=reason)

    def singles_out(self, tenants: Collection[str]) -> bool:
        """Return True if the model's breaker is not closed for one of these tenants alone."""
        return bool(self._look()[0].breaker.singled_out().keys() & tenants)

    def barred(self, tenant: str = "") -> float:
        """Return for how many seconds this tenant may not ask the model, except for a call that probes it."""
        health, now = self._look()
        if health.breaker.is_closed(tenant):
            return 0.0
        return max(_HALF_OPEN_SECONDS, health.breaker.opens_in(now, tenant) / 1000)

    def drill(self) -> str | None:
        """Return the fault that a drill injects at the moment."""
        return self._look()[0].drill

    def note(self, answers: Sequence[object], ms: float, *, probed: bool, tenants: Sequence[str] = ()) -> None:
        """Note what the answers of a call came to, each for its tenant. An error that has nothing to do with the model
        counts as neither. A model that abstains works: it closes its breaker, and counts as no call.
        """
        told = list(zip(answers, tenants or [""] * len(answers), strict=False))
        failures = [(error, of) for error, of in told if isinstance(error, HeadraceError) and _is_failure(error)]
        answered = sum(not isinstance(answer, HeadraceError) for answer in answers)
        works_for = {
            of for answer, of in told if not isinstance(answer, HeadraceError) or isinstance(answer, Abstained)
        }
        works_for -= {of for _, of in failures}
        with self._lock:
            calls = self._calls
            self._calls = Calls(
                calls.calls + answered + len(failures),
                calls.failures + len(failures),
                calls.ms + int(ms) * answered,
                max(calls.slowest_ms, int(ms)) if answered else calls.slowest_ms,
            )
        try:
            for error, of in failures:
                self._follow(partial(_failed, error=error, tenant=of, probed=probed, jitter=self._chance()))
            for of in sorted(works_for):
                known, now = self._known.last(self._model)
                if probed or after_success(known, now, of) != known:
                    self._follow(partial(after_success, tenant=of))
            if probed and not failures and not works_for:
                self._follow(partial(after_nothing, tenant=_one_of(tenants)))
            self._tell()
            sources = [answer.remote for answer in answers if isinstance(answer, Completion) and answer.remote]
            self._saw([source.model for source in sources])
            self._name_absurd_counts([source.disbelieved for source in sources if source.disbelieved is not None])
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
        before, after, now = self._breakers.follow(self._model, change)
        self._known.note(self._model, after, now)
        _log(self._model, before, after, now)

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
            calls, self._calls, self._told_at = self._calls, Calls(), self._monotonic()
        self._breakers.add_calls(self._model, calls)


def _is_failure(error: HeadraceError) -> bool:
    if error.category is not Category.REROUTABLE:
        return False
    # It was not asked; it answered; nobody let it answer; it leaves the answer to another.
    if isinstance(error, NotAsked | Unparsable | CutByDeadline | Abstained):
        return False
    return not isinstance(error, ProviderBusy) or not error.is_sure or (error.after or 0) >= _HARD_SECONDS


def _failed(breaker: Breaker, now: int, *, error: HeadraceError, tenant: str, probed: bool, jitter: float) -> Breaker:
    wish = error.after if isinstance(error, ProviderBusy) and error.is_sure else None
    until = None if wish is None else now + int(wish * 1000)
    reason = shared_reason_of(error)
    return after_failure(breaker, now, reason, tenant=tenant, probed=probed, until=until, jitter=jitter)


def _log(model: str, before: Breaker, after: Breaker, now: int) -> None:
    was, alone, alone_before = before.state(now), after.singled_out(), before.singled_out()
    if after.state(now) == "open" and before.open_until is None:
        log("models", logging.WARNING, Action.MODEL_DOWN, f"its breaker opened: {after.reason}", model=model)
    elif after.state(now) == "closed" and was != "closed":
        log("models", logging.INFO, Action.MODEL_UP, "its breaker closed: it answers again", model=model)
    for tenant in alone.keys() - alone_before.keys() if was == "closed" else ():
        log("models", logging.WARNING, Action.MODEL_DOWN, f"its breaker opened for one tenant: {alone[tenant].reason}",
            model=model, tenant=tenant)  # fmt: skip
    for tenant in alone_before.keys() - after.tenants.keys():
        log("models", logging.INFO, Action.MODEL_UP, "its breaker closed for one tenant: it answers again",
            model=model, tenant=tenant)  # fmt: skip


class BreakerIsOpen(NotAsked):
    """A call that was not made, since its model's breaker is open. `after` is in how many seconds the model is asked
    again.
    """


class InjectedFailure(Unseen, RemoteFailed):
    """The failure of a model in a drill."""


class InjectedBusy(Unseen, ProviderBusy):
    """A busy provider in a drill."""


def injected(fault: str, requests: Sequence[Any]) -> list[Completion | HeadraceError]:
    """Return for each request the error that a model gives in such an outage, after the time that it takes."""
    if fault == BUSY:
        return [InjectedBusy("drill: it takes no more calls", after=_BUSY_SECONDS) for _ in requests]
    if fault != HANG:
        return [InjectedFailure("drill: it could not be reached") for _ in requests]
    longest = max(min(request.at_most or _HANGS_SECONDS, _HANGS_SECONDS) for request in requests)
    until = time.monotonic() + longest
    while time.monotonic() < until and not all(request.given_up() for request in requests):
        time.sleep(_READ_OFTEN)
    late = InjectedFailure(f"drill: no answer began within {longest:g} s")
    return [GivenUp() if request.given_up() else late for request in requests]


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
        return type(self)(self._inner.urgent, self._health, self._monotonic)

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all; each is a BreakerIsOpen where the model may not be asked. A drill's fault comes in its place."""
        return self._for_each_tenant(requests, self._generate)

    def _generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        tenants = _tenants(requests)
        permit = self._health.permit(_longest(requests), _one_of(tenants))
        if permit.wait:
            return [self._open(permit) for _ in requests]
        if not permit.probes and self.provider is not None:  # a model of this machine is asked at once
            barred = self._health.barred
            requests = [
                replace(request, barred=partial(barred, of)) for request, of in zip(requests, tenants, strict=True)
            ]
        fault = self._health.drill()
        begun = self._monotonic()
        found = self._inner.generate(requests) if fault is None else injected(fault, requests)
        self._health.note(found, (self._monotonic() - begun) * 1000, probed=permit.probes, tenants=tenants)
        if permit.probes:  # one that failed has opened the breaker: its model is not asked once more
            found = [
                RemoteFailed(reason_of(completion)) if isinstance(completion, ServerFailed) else completion
                for completion in found
            ]
        return found

    def _for_each_tenant(self, requests: Sequence[R], ask: Callable[[Sequence[R]], list[A]]) -> list[A]:
        """Return what `ask` returns. While the breaker is open for one of their tenants alone, ask for each alone."""
        tenants = _tenants(requests)
        if len(set(tenants)) < 2 or not self._health.singles_out(set(tenants)):
            return ask(requests)
        found: dict[int, A] = {}
        for tenant in dict.fromkeys(tenants):
            places = [place for place, of in enumerate(tenants) if of == tenant]
            found.update(zip(places, ask([requests[place] for place in places]), strict=True))
        return [found[place] for place in range(len(requests))]

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Return the probabilities of the labels of all, or a BreakerIsOpen for each."""
        return self._asked(requests, self._inner.label_probabilities)

    def _asked(self, requests: Sequence[Any], ask: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
        """Return what this call of the model returns, or a BreakerIsOpen for each request, or a drill's fault."""
        return self._for_each_tenant(requests, partial(self._asked_once, ask=ask))

    def _asked_once(self, requests: Sequence[Any], ask: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
        tenants = _tenants(requests)
        permit = self._health.permit(_longest(requests), _one_of(tenants))
        if permit.wait:
            return [self._open(permit) for _ in requests]
        if fault := self._health.drill():
            drilled = injected(fault, requests)
            self._health.note(drilled, 0, probed=permit.probes, tenants=tenants)
            return drilled
        begun = self._monotonic()
        found: Sequence[Any] = ()
        try:
            found = ask(requests)
        finally:  # a probe that raised came to nothing
            self._health.note(found, (self._monotonic() - begun) * 1000, probed=permit.probes, tenants=tenants)
        return list(found)

    def _open(self, permit: Permit) -> BreakerIsOpen:
        reason = f"{self.alias} was not asked: its breaker is open after {permit.reason or 'failures'}"
        return BreakerIsOpen(reason, after=permit.wait, is_sure=False)


@runtime_checkable
class _Decides(Protocol):
    """A generator that decides by itself (decisions/deciding.py)."""

    def decide(self, requests: Sequence[Any]) -> list[Any]: ...


class MonitoredDecider(MonitoredGenerator):
    """A monitored generator that decides by itself."""

    def decide(self, requests: Sequence[Any]) -> list[Any]:
        """Decide all, or return a BreakerIsOpen for each. A model that abstains did not fail."""
        assert isinstance(self._inner, _Decides)  # noqa: S101 - `monitored` looked
        return self._asked(requests, self._inner.decide)


def monitored(inner: Generator, health: ModelHealth) -> MonitoredGenerator:
    """Return a generator whose breaker is kept by `health`, and that decides if the `inner` one does."""
    return (MonitoredDecider if isinstance(inner, _Decides) else MonitoredGenerator)(inner, health)


def _tenants(requests: Sequence[Any]) -> list[str]:
    """Return whose calls these are, each; nothing where nobody is named."""
    return [request.tenant or "" for request in requests]


def _one_of(tenants: Sequence[str]) -> str:
    """Return whose calls these are; nothing where they are of several tenants."""
    return tenants[0] if len(set(tenants)) == 1 else ""


def _longest(requests: Sequence[Request] | Sequence[LabelRequest]) -> float | None:
    """Return how long these calls may take; None where nothing bounds one of them."""
    bounds = [request.at_most for request in requests if request.at_most is not None]
    return max(bounds, default=None) if len(bounds) == len(requests) else None
