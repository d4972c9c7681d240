"""Slots for batches, and one for what is urgent."""

import threading

from tests.services.eventually import eventually

from headrace_workers.features.generation.engines.slots import Slots


def test_ordinary_work_waits_for_a_slot_and_urgent_work_does_not():
    """With every slot taken, urgent work runs at once; ordinary work runs when a slot is free again."""
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
    """A burst of urgent work alone uses the whole machine: all of these run at the same time."""
    slots, together = Slots(2), threading.Barrier(3, timeout=120)
    running = [slots.submit(together.wait, urgent=True) for _ in range(3)]
    assert sorted(one.result(120) for one in running) == [0, 1, 2]


def test_a_slot_is_given_back_after_an_error():
    """What failed holds nothing."""
    slots = Slots(1)
    assert isinstance(slots.submit(lambda: 1 / 0, urgent=False).exception(120), ZeroDivisionError)
    assert slots.submit(lambda: 1, urgent=False).result(120) == 1
    eventually(lambda: slots.free == 1)
