"""What a process loaded at its start is spared by the collector; what comes later is not."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from headrace_workers.garbage import spare_what_is_loaded


class Knot:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The collector of the test's own process goes on as it did."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_loaded_is_not_looked_at_again() -> None:
    """What is there already is among what the collector passes over, and its looks are rarer than by default."""
    loaded = Knot()
    spare_what_is_loaded()
    assert gc.get_freeze_count() > 0
    assert not any(each is loaded for each in gc.get_objects())
    assert gc.get_threshold()[0] > 10_000


def test_what_is_garbage_at_that_moment_goes() -> None:
    """It would stay for good otherwise."""
    knot = weakref.ref(Knot())
    assert knot() is not None
    spare_what_is_loaded()
    assert knot() is None


def test_what_comes_later_is_still_freed() -> None:
    """Cycles are made all the time, by errors with their tracebacks for example."""
    spare_what_is_loaded()
    knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is None
