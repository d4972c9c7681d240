import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import update
from tests.services.eventually import eventually
from tests.workers.features.batches.running import Running, jobs
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.tasks_in_memory import Tasks

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.outage import keep_going
from headrace_workers.core.pipeline.routing import Pipeline, ServedModel
from headrace_workers.core.progress import Awaited, Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.runtime.bridge.bridge import Bridge, Duty, WakeUps, all_duties
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.bridge.reap import Reap
from headrace_workers.runtime.wire.hints import Hint


class Idle:
    """Stands for each part of a bridge; `broken` names the calls that raise."""

    waits = None
    followed = False
    rest = 0.05
    receivers = {}

    def __init__(self, **broken):
        self.broken = broken
        self.calls = []

    def _called(self, name):
        self.calls.append(name)
        if error := self.broken.get(name):
            raise error
        return 0

    # What a bridge calls of its parts, and no other name: mypy knows whether the parts have these.

    def once(self, *_):
        return self._called("once")

    def take_turn(self, turn):
        self._called("take_turn")
        turn.rest(self.rest)
        return self.waits

    def close(self):
        return self._called("close")

    def notify(self, *_):
        return self._called("notify")

    def start(self):
        return self._called("start")

    def stop(self, *_):
        return self._called("stop")

    def touch(self, *_):
        return self._called("touch")


class OwnListener(Idle):
    def __init__(self, *hears):
        super().__init__()
        self.heard = hears

    def touch(self, *hints):
        for rungs in self.heard:
            for hint in hints:
                if hint in rungs:
                    rungs[hint].set()


def bridge(ledger, duties=None, of_features=None, progress=None, **parts):
    """A bridge of idle parts, some replaced; of all duties, or of these."""
    of_features = {name: Idle() for name in ("batches", "evals")} | (of_features or {})
    wake_ups = WakeUps()
    known = {name: Idle() for name in ("ingest", "dispatch", "relay", "reap", "notifier", "writes")}
    return Bridge(
        name="bridge",
        duties=frozenset(all_duties()) if duties is None else duties,
        ledger=ledger,
        listener=OwnListener(wake_ups.receivers, *(duty.receivers for duty in of_features.values())),
        wake_ups=wake_ups,
        of_features=of_features,
        progress=progress or Progress(),
        **(known | parts),
    )


def test_a_stop_gives_back_what_nobody_began_even_when_kafka_is_away(tmp_path):
    stop = threading.Event()
    stop.set()
    away, notifier = Idle(close=Unavailable("no broker"), once=Unavailable("no broker")), Idle()
    with sqlite_ledger(tmp_path) as ledger:
        take_in(ledger, [generation()])
        claim_one(ledger)
        assert ledger.hold("relay", "bridge", 60_000)
        bridge(ledger, ingest=away, relay=away, notifier=notifier).run(stop)
        assert ledger.overview().claims == 0
        assert ledger.hold("relay", "another", 60_000)
    assert notifier.calls == ["notify"]  # another bridge may hand it out at once


def test_a_duty_that_breaks_ends_the_bridge(tmp_path, monkeypatch):
    """A bridge that does half of its work must not look alive: it drains and ends with an error."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    reap = Idle(once=ZeroDivisionError())
    relay = Idle()
    with sqlite_ledger(tmp_path) as ledger, pytest.raises(HeadraceError, match="reap ended"):
        bridge(ledger, reap=reap, relay=relay).run(threading.Event())
    assert "close" in relay.calls


def test_only_the_chosen_duties_run(tmp_path):
    reap, dispatch, ingest = Idle(), Idle(), Idle()
    with sqlite_ledger(tmp_path) as ledger:
        made = bridge(ledger, frozenset({Duty.REAP}), reap=reap, dispatch=dispatch, ingest=ingest)
        with running(made):
            eventually(lambda: reap.calls.count("once") > 2)
    assert (dispatch.calls, ingest.calls) == ([], [])


def test_a_loop_goes_on_when_a_service_comes_back():
    stop, calls = threading.Event(), []

    def once():
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable("away")
        stop.set()

    keep_going(once, stop, Progress().loop("test"))
    assert len(calls) == 3


def test_an_end_is_published_at_once_and_what_soon_follows_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace_workers.runtime.bridge.bridge.FOLLOWED", 3_600.0)
    stop, relay = threading.Event(), Idle()
    relay.rest = 3_600.0
    with sqlite_ledger(tmp_path) as ledger:
        made = bridge(ledger, frozenset({Duty.RELAY}), relay=relay)
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            eventually(lambda: relay.calls == ["once"])
            made._listener.touch(Hint.WORK, Hint.EVENTS)
            made._listener.touch(*Hint)
            eventually(lambda: relay.calls == ["once", "once"])
        finally:
            stop.set()
            made._listener.touch(*Hint)
            thread.join(120)


def test_a_few_steps_of_the_batch_lane_wait_for_others_before_a_look(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace_workers.runtime.bridge.bridge.TRICKLE", 3_600.0)
    dispatch = Idle()
    dispatch.rest = 3_600.0
    with sqlite_ledger(tmp_path) as ledger:
        made = bridge(ledger, frozenset({Duty.DISPATCH}), dispatch=dispatch)
        with running(made):
            eventually(lambda: dispatch.calls == ["once"])
            made._listener.touch(Hint.TRICKLE)
            made._listener.touch(Hint.TRICKLE, Hint.WORK)
            eventually(lambda: dispatch.calls == ["once", "once"])


@pytest.mark.parametrize("duty", [Duty.INGEST, Duty.RELAY, "batches", "evals"])
def test_what_parts_wait_for_is_told_to_their_loops(tmp_path, duty):
    progress, lacking = Progress(), Awaited("Kafka", "frozen")
    part = Idle()
    part.waits = lacking
    part.once = lambda *_: lacking if duty is Duty.INGEST else 0
    parts = {duty: part} if isinstance(duty, Duty) else {"of_features": {duty: part}}
    with sqlite_ledger(tmp_path) as ledger, running(bridge(ledger, frozenset({duty}), progress=progress, **parts)):
        eventually(lambda: [loop.state().awaited for loop in progress.loops] == [lacking])


class Once(Dispatch):
    """Looks of its own accord after an hour."""

    looked = 0

    def once(self):
        sent = super().once()
        self.looked, self.rest = self.looked + 1, 3600.0
        return sent


@contextmanager
def running(made):
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("change", "sent"), [({"state": "waiting", "ready_at": 1}, 1), ({"deadline": 1}, 0)], ids=["delay", "deadline"]
)
def test_what_time_brings_about_waits_for_no_look(tmp_path, change, sent):
    tasks = Tasks()
    with sqlite_ledger(tmp_path) as ledger:
        dispatch = Once(
            ledger=ledger, tasks=tasks, pipeline=Pipeline(), models=lambda: [ServedModel("echo")], bridge="b",
            lease_ms=30_000, group_size=1, depth=1, linger_ms=0,
        )  # fmt: skip
        reap = Reap(ledger=ledger, clock=SystemClock(), lease_ms=30_000, max_crashes=3, retention=60.0)
        with running(bridge(ledger, frozenset({Duty.DISPATCH, Duty.REAP}), dispatch=dispatch, reap=reap)):
            eventually(lambda: dispatch.looked == 1)
            take_in(ledger, [generation()])
            with writing(ledger.engine) as tx:
                tx.execute(update(STEPS).values(**change))
            eventually(lambda: dispatch.looked == 2)
    assert len(tasks.sent) == sent


def test_batches_are_gone_on_with_as_soon_as_somebody_rings(tmp_path, monkeypatch):
    for name in ("IDLE", "_REST"):
        monkeypatch.setattr(f"headrace_workers.features.batches.duty.{name}", 3_600.0)
    with sqlite_ledger(tmp_path) as ledger:
        batches = Running(ledger, tmp_path)
        made = bridge(ledger, frozenset({"batches"}), {"batches": batches.bulk})
        with running(made):
            eventually(lambda: batches.bulk.rest)  # it has looked, and found nothing
            batch_id = batches.submit(jobs(3))
            made._listener.touch(Hint.BATCHES)
            eventually(lambda: batches.batch(batch_id).taken == 3)
            while batches.batch(batch_id).completed < 3:
                batches.end(limit=1)
                made._listener.touch(Hint.EVENTS)
            eventually(lambda: batches.batch(batch_id).state == "completed")


def test_while_there_is_no_batch_ends_wake_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace_workers.features.batches.duty.IDLE", 3_600.0)
    with sqlite_ledger(tmp_path) as ledger:
        batches, seconds, looks = Running(ledger, tmp_path).bulk, Idle(), []
        once = batches.once
        monkeypatch.setattr(batches, "once", lambda *given: looks.append(1) or once(*given))
        made = bridge(ledger, frozenset({"batches", Duty.REAP}), {"batches": batches}, reap=seconds)
        with running(made):
            eventually(lambda: batches.rest)  # it has looked, and found nothing
            made._listener.touch(Hint.EVENTS)
            eventually(lambda: len(seconds.calls) > 2)
            assert len(looks) == 1
            made._listener.touch(Hint.BATCHES)
            eventually(lambda: len(looks) == 2)
