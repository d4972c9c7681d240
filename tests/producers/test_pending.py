"""What is on its way: the bound in bytes, the bound in time, and what a new client gets."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace_producers.errors import BufferFull, ProducerClosed, RecordRefused
from headrace_producers.pending import MAX_FAILURES, PendingRecords, Settled
from headrace_producers.sink import Record
from headrace_schemas import Topic


class Hands:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def pending_of(limit_bytes=10**9, lifetime=60.0, patience=60.0, now=None):
    return PendingRecords(limit_bytes, lifetime, patience, now or Hands())


def record(job_id, topic=Topic.GENERATION):
    return Record(topic, job_id.encode(), [], b"{}", job_id)


def tell(pending):
    """What a teller does, once: what it would have told."""
    settled = pending.settled()
    pending.forget(settled)
    return settled


def carried(pending, topic=Topic.GENERATION):
    """What a carrier would hand to the client."""
    return [item.job_id for _, item in pending.take(topic)]


def test_room_comes_back_when_a_record_was_told():
    pending = pending_of(100)
    first = pending.add(record("a"), 80, timeout=0)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(pending.add, record("b"), 80, 30)
        pending.confirmed(first)
        tell(pending)
        assert second.result(120) == first + 1
    with pytest.raises(BufferFull, match="job c was not sent"):
        pending.add(record("c"), 80, timeout=0)


def test_a_record_larger_than_the_bound_goes_alone():
    assert pending_of(10).add(record("a"), 1_000, timeout=0) == 1


def test_who_waits_for_room_is_told_when_the_producer_is_closed():
    """Nothing is taken after `close`, also from a caller that has waited since before."""
    pending = pending_of(10)
    pending.add(record("a"), 10, 0)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(pending.add, record("b"), 10, 30)
        assert pending.close()
        assert not pending.close()
        with pytest.raises(ProducerClosed):
            second.result(120)


def test_wait_is_for_what_was_there_before():
    pending = pending_of()
    first, second = pending.add(record("a"), 1, 0), pending.add(record("b"), 1, 0)
    pending.confirmed(second)
    tell(pending)
    assert not pending.wait(0)
    pending.confirmed(first)
    tell(pending)
    assert pending.wait(0)


def test_failures_are_taken_once_and_bounded():
    pending = pending_of()
    for number in range(MAX_FAILURES + 5):
        pending.refused(pending.add(record(f"{number}"), 1, 0), RecordRefused("gone"))
    tell(pending)
    failures, count = pending.take_failures()
    assert (len(failures), count) == (MAX_FAILURES, MAX_FAILURES + 5)
    assert pending.take_failures() == ([], 0)


def test_a_record_whose_time_is_up_has_failed_with_the_last_trouble():
    now = Hands()
    pending = pending_of(lifetime=2, now=now)
    first = pending.add(record("a"), 1, 0)
    now.time = 1
    pending.add(record("b"), 1, 0)
    pending.note("nobody answers")
    now.time = 2
    assert tell(pending) == [Settled(first, "a", "not confirmed within 2 s (nobody answers)")]
    pending.confirmed(first)
    now.time = 3
    assert [item.job_id for item in tell(pending)] == ["b"]
    assert len(pending) == 0


def test_the_first_word_of_a_record_holds():
    pending = pending_of()
    number = pending.add(record("a"), 1, 0)
    pending.refused(number, RecordRefused("too large"))
    pending.confirmed(number)
    assert [item.failure for item in tell(pending)] == ["too large"]


def test_a_new_client_gets_all_that_is_not_confirmed_in_order():
    pending = pending_of()
    numbers = [pending.add(record(job_id), 1, 0) for job_id in "abc"]
    assert carried(pending) == ["a", "b", "c"]
    pending.add(record("d"), 1, 0)
    pending.confirmed(numbers[1])
    pending.broke()
    assert pending.next_topic((), None) is None
    pending.rewind()
    assert carried(pending) == ["a", "c", "d"]


def test_a_client_whose_record_has_expired_is_replaced():
    """It would hold the record for ever; what no client had yet is no reason."""
    now = Hands()
    pending = pending_of(lifetime=1, now=now)
    pending.add(record("a"), 1, 0)
    now.time = 1
    tell(pending)
    assert not pending.broken
    pending.add(record("b"), 1, 0)
    carried(pending)
    now.time = 2
    tell(pending)
    assert pending.broken


def test_a_client_that_confirms_nothing_is_replaced():
    now = Hands()
    pending = pending_of(patience=10, now=now)
    now.time = 20
    first = pending.add(record("a"), 1, 0)
    pending.add(record("b"), 1, 0)
    carried(pending)
    now.time = 29
    pending.confirmed(first)
    tell(pending)
    now.time = 38
    pending.refused(pending.add(record("c"), 1, 0), RecordRefused("too large"))
    tell(pending)
    assert not pending.broken
    now.time = 39
    pending.refused(pending.add(record("d"), 1, 0), RecordRefused("too large"))
    tell(pending)
    assert pending.broken
    pending.rewind()
    pending.refused(pending.add(record("e"), 1, 0), RecordRefused("too large"))
    tell(pending)
    assert not pending.broken


def test_topics_do_not_wait_for_each_other():
    pending = pending_of()
    pending.add(record("a", Topic.GENERATION), 1, 0)
    pending.add(record("b", Topic.EVALUATION), 1, 0)
    assert pending.next_topic((), 0) is Topic.GENERATION
    assert pending.next_topic({Topic.GENERATION}, 0) is Topic.EVALUATION
    assert carried(pending, Topic.EVALUATION) == ["b"]
    assert pending.next_topic({Topic.GENERATION}, 0) is None


def test_what_is_abandoned_is_told_and_ends_it():
    pending = pending_of()
    pending.add(record("a"), 1, 0)
    pending.close()
    assert not pending.ended
    pending.abandon("closed")
    assert [(item.job_id, item.failure) for item in tell(pending)] == [("a", "closed")]
    assert pending.ended
    assert pending.settled() == []
