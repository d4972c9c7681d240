"""Slots for batches, urgent work, and memory that an idle process gives back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.services.eventually import eventually

from headrace_schemas import Message, Sampling
from headrace_workers.models.engines import ctranslate2_generator, slots
from headrace_workers.models.engines.slots import IdleMemory, Slots, UrgentRuns
from headrace_workers.models.generator import Request


def test_ordinary_work_waits_for_a_slot_and_urgent_work_does_not():
    slots, gate = Slots(2), threading.Event()
    blocked = [slots.submit(lambda: gate.wait(120), urgent=False) for _ in range(2)]
    later = slots.submit(lambda: "later", urgent=False)
    assert slots.free == 0
    assert slots.submit(lambda: "now", urgent=True).result(120) == "now"
    assert not later.done()
    gate.set()
    assert later.result(120) == "later"
    assert all(one.result(120) for one in blocked)


def test_urgent_work_takes_ordinary_slots_while_there_are_some():
    slots, together = Slots(2), threading.Barrier(3, timeout=120)
    running = [slots.submit(together.wait, urgent=True) for _ in range(3)]
    assert sorted(one.result(120) for one in running) == [0, 1, 2]


def test_a_slot_is_given_back_after_an_error():
    slots = Slots(1)
    assert isinstance(slots.submit(lambda: 1 / 0, urgent=False).exception(120), ZeroDivisionError)
    assert slots.submit(lambda: 1, urgent=False).result(120) == 1
    eventually(lambda: slots.free == 1)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_one_run_waits_until_what_is_urgent_has_ended_and_the_others_go_on(monkeypatch):
    """As many stand aside as there are runs too many."""
    monkeypatch.setattr(slots, "AT_FIRST", 600.0)  # longer than a busy machine takes for this
    model_slots, gate = Slots(2), threading.Event()
    runs = [model_slots.urgent_runs.start_bulk_run() for _ in range(2)]
    blocked = [model_slots.submit(lambda: gate.wait(120), urgent=False) for _ in range(2)]
    urgent = threading.Event()
    beside = model_slots.submit(lambda: urgent.wait(120), urgent=True)
    with ThreadPoolExecutor(1) as thread:
        eventually(lambda: model_slots.urgent_runs.busy)
        stands = thread.submit(runs[0].between)
        eventually(lambda: model_slots.urgent_runs.waiting == 1)
        runs[1].between()  # goes on at once
        assert not stands.done()
        urgent.set()
        assert beside.result(120)
        stands.result(120)
    assert model_slots.urgent_runs.waiting == 0
    gate.set()
    assert all(future.result(120) for future in blocked)


def test_nobody_waits_for_longer_than_he_has_computed():
    clock = Clock()
    urgent_runs = UrgentRuns(clock)
    run = urgent_runs.start_bulk_run()
    clock.now += 3.0
    asked = []
    urgent_runs._changed.wait_for = lambda _, most: (asked.append(most), setattr(clock, "now", clock.now + most))
    with urgent_runs.urgent():
        run.between()  # 3 s, and half a second at first
        run.between()  # it has computed nothing since
        clock.now += 1.0
        run.between()
    assert asked == [3.5, 1.0]


def test_where_nothing_is_urgent_nobody_waits():
    urgent_runs = UrgentRuns()
    run = urgent_runs.start_bulk_run()
    run.between()
    with urgent_runs.urgent():
        assert urgent_runs.busy
    run.between()
    assert (urgent_runs.busy, urgent_runs.waiting) == (False, 0)


def test_an_urgent_run_in_an_ordinary_slot_moves_nobody():
    slots = Slots(2)
    assert slots.submit(lambda: slots.urgent_runs.busy, urgent=True).result(120) is False


def test_a_process_that_rests_is_told_once_for_each_time():
    """Again when it has worked since."""
    told = []
    resting = IdleMemory(lambda: told.append(len(told)), seconds=0.01)
    for times in (1, 2):
        with resting.busy(), resting.busy():
            pass
        eventually(lambda times=times: len(told) == times)
        time.sleep(0.1)
        assert len(told) == times


def test_a_process_that_works_does_not_rest():
    told = threading.Event()
    resting = IdleMemory(told.set, seconds=0.01)
    with resting.busy():
        for _ in range(5):
            with resting.busy():
                time.sleep(0.02)
        assert not told.is_set()
    assert told.wait(120)


def test_who_works_again_before_the_time_is_over_has_not_rested():
    told = threading.Event()
    resting = IdleMemory(told.set, seconds=3_600)
    for _ in range(3):
        with resting.busy():
            pass
    assert not told.is_set()


def test_an_engine_that_has_answered_rests(tiny_home, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr(ctranslate2_generator, "IDLE_MEMORY", IdleMemory(told.set, seconds=0.01))
    engine = ctranslate2_generator.CTranslate2Generator.load(tiny_home / "models" / "tiny")
    assert not told.is_set()
    engine.generate([Request((Message(role="user", content="a river"),), Sampling(max_tokens=2), "default")])
    assert told.wait(120)
