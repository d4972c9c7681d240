"""The bound on what is on its way."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace_producers.errors import BufferFull
from headrace_producers.pending import MAX_FAILURES, PendingRecords


def test_room_comes_back_when_a_record_is_done():
    """A caller that waits for room gets it as soon as another record is confirmed."""
    pending = PendingRecords(100)
    first = pending.add("a", 80, timeout=0)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(pending.add, "b", 80, 30)
        pending.done(first)
        assert second.result(30) == first + 1
    with pytest.raises(BufferFull, match="job c was not sent"):
        pending.add("c", 80, timeout=0)


def test_a_record_larger_than_the_bound_goes_alone():
    """The bound never makes a record impossible to send."""
    pending = PendingRecords(10)
    assert pending.add("a", 1_000, timeout=0) == 1


def test_wait_is_for_what_was_there_before():
    """Waiting ends when the earlier records are done, in whatever order."""
    pending = PendingRecords(100)
    first, second = pending.add("a", 1, 0), pending.add("b", 1, 0)
    pending.done(second)
    assert not pending.wait(0)
    pending.done(first)
    assert pending.wait(0)


def test_failures_are_taken_once_and_bounded():
    """Failures are kept by id up to a bound, counted beyond it, and told once."""
    pending = PendingRecords(10**9)
    for number in range(MAX_FAILURES + 5):
        pending.done(pending.add(f"{number}", 1, 0), "gone")
    failures, count = pending.take_failures()
    assert (len(failures), count) == (MAX_FAILURES, MAX_FAILURES + 5)
    assert pending.take_failures() == ([], 0)
