"""The bridge: the threads that carry work between Kafka, the ledger and Celery. Any number may share a ledger."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from headrace_producers.words import words
from headrace_schemas.errors import HeadraceError
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.machine import hand_back
from headrace_workers.core.outage import OUTAGE_ERRORS, keep_going
from headrace_workers.core.progress import Awaited, Loop, Progress
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.bridge.duty import FeatureDuty, Turn
from headrace_workers.runtime.bridge.ingest import Ingest
from headrace_workers.runtime.bridge.reap import Reap
from headrace_workers.runtime.bridge.relay import Relay
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.wire.hints import Broadcast, Hint, HintListener, HintReceiver, Notifier

# So long a hint from elsewhere, mostly that there is room in a queue, waits for others that come with it: one look is
# enough for all, and it takes no time from the worker that a job went on to.
_GATHER = 0.008
FOLLOWED = 0.05  # and so long what that worker will soon have more of: see Hint.ENDS
TRICKLE = 0.05  # and so long what a few steps of the batch lane left: see Hint.TRICKLE
LOOK_AFTER_EVERY = 1.0  # seconds between looks whether all threads live
_HAND_BACK_EVERY = 5  # of these: it takes some milliseconds, and without it what a burst left behind would stay
_JOIN_SECONDS = 10.0


class Duty(StrEnum):
    """The duties of the bridge itself."""

    INGEST = "ingest"
    DISPATCH = "dispatch"
    RELAY = "relay"
    REAP = "reap"
    METRICS = "metrics"  # run as the features' are


def all_duties() -> tuple[str, ...]:
    """Return the names of all duties, also the features'. Flags choose; by default a bridge has all."""
    return (*Duty, *(name for feature in installed() for name in feature.duties))


@dataclass(frozen=True, slots=True)
class WakeUps:
    """The events that wake the loops of a bridge."""

    work: threading.Event = field(default_factory=threading.Event)
    trickle: threading.Event = field(default_factory=threading.Event)  # set with `work`, too
    events: threading.Event = field(default_factory=threading.Event)
    ends: threading.Event = field(default_factory=threading.Event)

    @property
    def receivers(self) -> Mapping[Hint, HintReceiver]:
        """Return for each hint what it sets."""
        return {
            Hint.WORK: Broadcast(self.work, self.trickle),
            Hint.TRICKLE: self.trickle,
            Hint.EVENTS: self.events,
            Hint.ENDS: self.ends,
        }


class Bridge:
    """Process that runs its duties, a thread each, until it is stopped; then it leaves nothing of its own behind."""

    def __init__(
        self,
        *,
        name: str,
        duties: frozenset[str],
        ledger: Ledger,
        listener: HintListener,
        wake_ups: WakeUps,
        ingest: Ingest,
        dispatch: Dispatch,
        relay: Relay,
        reap: Reap,
        of_features: Mapping[str, FeatureDuty],
        notifier: Notifier,
        writes: Writes,
        progress: Progress,
    ) -> None:
        self._name = name
        self._duties = duties
        self._ledger = ledger
        self._listener = listener
        self._wake_ups = wake_ups
        self._ingest = ingest
        self._dispatch = dispatch
        self._relay = relay
        self._reap = reap
        self._of_features = of_features
        self._notifier = notifier
        self._writes = writes
        self._progress = progress
        self._new_work = threading.Event()  # taken in here: nobody has looked at it yet
        self._stop = threading.Event()
        self._stop_relay = threading.Event()
        self._loops: dict[str, Loop] = {}  # where each thread says that it goes on

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set, then drain: nothing more is taken, claims nobody began are given back, and what
        the outbox holds is published."""
        turns: dict[str, tuple[Callable[[], Awaited | None], threading.Event]] = {
            Duty.INGEST: (self._ingest_once, self._stop),
            Duty.DISPATCH: (self._dispatch_once, self._stop),
            Duty.REAP: (self._reap_once, self._stop),
            **{name: (partial(self._feature_once, name), self._stop) for name in self._of_features},
            Duty.RELAY: (self._relay_once, self._stop_relay),
        }
        self._listener.start()
        self._writes.start()
        self._loops = {duty: self._progress.loop(str(duty)) for duty in turns if duty in self._duties}
        threads = {
            duty: threading.Thread(target=keep_going, args=(*turns[duty], loop), name=str(duty), daemon=True)
            for duty, loop in self._loops.items()
        }
        for thread in threads.values():
            thread.start()
        log("bridge", logging.INFO, Action.STARTED, "the bridge runs", duties=",".join(sorted(self._duties)))
        broken: list[str] = []
        looks = 0
        while not stop.wait(LOOK_AFTER_EVERY) and not broken:
            broken = sorted(duty for duty, thread in threads.items() if not thread.is_alive())
            looks += 1
            if looks % _HAND_BACK_EVERY == 0:
                hand_back()
        self._drain(threads)
        if broken:  # a process that does half of its work looks alive: its supervisor must see its end
            raise HeadraceError(f"the bridge stopped: {', '.join(broken)} ended by an error that the log shows above")

    def _drain(self, threads: dict[str, threading.Thread]) -> None:
        self._stop.set()
        self._wake_ups.work.set()
        self._wake_ups.trickle.set()
        for receiver in (
            hint_receiver for duty in self._of_features.values() for hint_receiver in duty.receivers.values()
        ):
            receiver.set()
        for name, thread in threads.items():
            if name != Duty.RELAY:
                thread.join(_JOIN_SECONDS)
        self._stop_relay.set()  # from here on this thread publishes what is left
        self._wake_ups.events.set()
        if relay := threads.get(Duty.RELAY):
            relay.join(_JOIN_SECONDS)
        # One that hangs in a call still owns its consumer or producer: then the process's end puts them away.
        done = {duty for duty, thread in threads.items() if not thread.is_alive()}
        if Duty.INGEST in done:
            self._attempt(self._ingest.close)
        for name, feature_duty in self._of_features.items():
            if name in done:
                self._attempt(feature_duty.close)
        self._attempt(self._release)
        if Duty.RELAY in done:
            self._attempt(self._publish_rest)
            self._attempt(self._relay.close)
        self._attempt(lambda: self._ledger.lay_down(self._name))
        self._listener.stop()
        self._writes.stop(_JOIN_SECONDS)
        self._ledger.close()
        log("bridge", logging.INFO, Action.STOPPED, "the bridge stopped")

    def _attempt(self, act: Callable[[], object]) -> None:
        """Do one part of a stop, and log its error: an unavailable broker must not keep claims from being given
        back.
        """
        try:
            act()
        except OUTAGE_ERRORS as error:  # leases and the next bridge take care of what could not be put away
            log("bridge", logging.WARNING, Action.UNAVAILABLE, f"could not close everything: {words(error)}")

    def _release(self) -> None:
        steps = self._ledger.release_unstarted(self._name)
        log("bridge", logging.INFO, Action.GIVEN_BACK, "claims that no worker had begun were given back", steps=steps)
        if steps:
            self._notifier.notify(Hint.WORK)  # another bridge may have them

    def _publish_rest(self) -> None:
        while self._relay.once():
            pass

    def _ingest_once(self) -> Awaited | None:
        return self._ingest.once(self._tell)

    def _tell(self, hint: Hint) -> None:
        """Wake the loops that see to a hint: here, or in other bridges for duties that are not run here."""
        if hint is Hint.WORK:
            self._new_work.set()
        self._listener.touch(hint)
        if (Duty.DISPATCH if hint is Hint.WORK else Duty.RELAY) not in self._duties:
            self._notifier.notify(hint)

    def _dispatch_once(self) -> None:
        self._wake_ups.trickle.clear()
        self._wake_ups.work.clear()
        self._new_work.clear()
        self._dispatch.once()
        if self._wake_ups.trickle.wait(self._dispatch.rest) and self._wake_ups.work.wait(TRICKLE):
            self._new_work.wait(_GATHER)

    def _relay_once(self) -> Awaited | None:
        self._wake_ups.events.clear()
        self._wake_ups.ends.clear()
        self._relay.once()
        if self._relay.followed:
            self._tell(Hint.WORK)
        if self._wake_ups.events.wait(self._relay.rest):
            self._wake_ups.ends.wait(FOLLOWED)
        return self._relay.waits

    def _feature_once(self, name: str) -> Awaited | None:
        turn = Turn(tell=self._tell, tell_all=self._tell_all, alive=self._loops[name].beat, rest=self._stop.wait)
        return self._of_features[name].take_turn(turn)

    def _tell_all(self, hint: Hint) -> None:
        """Wake the loops that see to a hint, in all bridges."""
        self._listener.touch(hint)
        self._notifier.notify(hint)

    def _reap_once(self) -> None:
        if self._reap.once():
            self._notifier.notify(*Hint)
            self._listener.touch(*Hint)
        self._stop.wait(self._reap.rest)
