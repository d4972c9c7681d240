"""The bridge's threads, and what it leaves behind."""

import threading

import pytest
from tests.services.eventually import eventually
from tests.workers.bridge.records import generation
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.bridge.bridge import Bridge, Duty
from headrace_workers.bridge.loop import keep_going
from headrace_workers.progress import Awaited, Progress


class Idle:
    """Stands for each part of a bridge; `broken` names the calls that raise."""

    waits = None

    def __init__(self, **broken):
        self.broken = broken
        self.calls = []

    def __getattr__(self, name):
        def call(*_args):
            self.calls.append(name)
            if error := self.broken.get(name):
                raise error
            return 0

        return call


def bridge(ledger, duties=frozenset(Duty), **parts):
    """A bridge of idle parts, some replaced."""
    known = {name: Idle() for name in ("ears", "ingest", "dispatch", "relay", "reap", "bell")} | parts
    return Bridge(
        name="bridge",
        duties=duties,
        ledger=ledger,
        work=threading.Event(),
        events=threading.Event(),
        progress=Progress(),
        **known,
    )


def test_a_stop_gives_back_what_nobody_began_even_when_kafka_is_away(tmp_path):
    """A broker that does not answer keeps neither claims nor duties held."""
    stop = threading.Event()
    stop.set()
    away = Idle(close=Unavailable("no broker"), once=Unavailable("no broker"))
    with sqlite_ledger(tmp_path) as ledger:
        take_in(ledger, [generation()])
        claim_one(ledger)
        assert ledger.hold("relay", "bridge", 60_000)
        bridge(ledger, ingest=away, relay=away).run(stop)
        assert ledger.overview().claims == 0
        assert ledger.hold("relay", "another", 60_000)


def test_a_duty_that_breaks_ends_the_bridge(tmp_path, monkeypatch):
    """A bridge that does half of its work must not look alive: it drains and ends with an error."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    reap = Idle(once=ZeroDivisionError())
    relay = Idle()
    with sqlite_ledger(tmp_path) as ledger, pytest.raises(HeadraceError, match="reap ended"):
        bridge(ledger, reap=reap, relay=relay).run(threading.Event())
    assert "close" in relay.calls


def test_only_the_chosen_duties_run(tmp_path):
    """What was not asked for is not touched."""
    stop = threading.Event()
    reap, dispatch, ingest = Idle(), Idle(), Idle()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with sqlite_ledger(tmp_path) as ledger:
        bridge(ledger, frozenset({Duty.REAP}), reap=reap, dispatch=dispatch, ingest=ingest).run(stop)
    assert ("once" in reap.calls, dispatch.calls, ingest.calls) == (True, [], [])


def test_a_loop_goes_on_when_a_service_comes_back():
    """What does not answer is tried again; the loop ends when it is told to."""
    stop, calls = threading.Event(), []

    def once():
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable("away")
        stop.set()

    keep_going(once, stop, Progress().loop("test"))
    assert len(calls) == 3


@pytest.mark.parametrize("duty", [Duty.INGEST, Duty.RELAY])
def test_what_ingest_and_relay_wait_for_is_told_to_their_loops(tmp_path, duty):
    """So `headrace health` names a partition that cannot be read, and a broker that takes no events."""
    stop, progress, lacking = threading.Event(), Progress(), Awaited("Kafka", "frozen")
    part = Idle()
    part.waits = lacking
    part.once = lambda *_: lacking if duty is Duty.INGEST else 0
    with sqlite_ledger(tmp_path) as ledger:
        known = {name: Idle() for name in ("ears", "ingest", "dispatch", "relay", "reap", "bell")} | {str(duty): part}
        made = Bridge(name="b", duties=frozenset({duty}), ledger=ledger, work=threading.Event(),
                      events=threading.Event(), progress=progress, **known)  # fmt: skip
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            eventually(lambda: [loop.state().awaited for loop in progress.loops] == [lacking])
        finally:
            stop.set()
            thread.join()
