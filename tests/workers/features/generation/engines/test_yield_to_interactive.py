"""Bulk runs that stand aside for what is urgent."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.services.eventually import eventually

from headrace_workers.features.generation.engines import slots
from headrace_workers.features.generation.engines.slots import Slots, UrgentRuns


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_one_run_waits_until_what_is_urgent_has_ended_and_the_others_go_on(monkeypatch):
    """As many stand aside as there are runs too many."""
    monkeypatch.setattr(slots, "_AT_FIRST", 600.0)  # longer than a busy machine takes for this
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
    assert all(each.result(120) for each in blocked)


def test_nobody_waits_for_longer_than_he_has_computed():
    """Where urgent work never ends, bulk work has half of the time."""
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
    """Nor does who was asked when it had just ended."""
    urgent_runs = UrgentRuns()
    run = urgent_runs.start_bulk_run()
    run.between()
    with urgent_runs.urgent():
        assert urgent_runs.busy
    run.between()
    assert (urgent_runs.busy, urgent_runs.waiting) == (False, 0)


def test_an_urgent_run_in_an_ordinary_slot_moves_nobody():
    """There is a core for it."""
    slots = Slots(2)
    assert slots.submit(lambda: slots.urgent_runs.busy, urgent=True).result(120) is False
