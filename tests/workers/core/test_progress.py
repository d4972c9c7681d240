import logging
import os
import threading

import pytest

from headrace_workers.core.progress import STUCK_EXIT, Awaited, Progress

REDIS = Awaited("Redis", "no answer")


class Time:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def progress(time):
    return Progress(time)


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_loop_is_silent_from_its_last_turn_on(progress):
    loop = progress.loop("ingest")
    progress.lived = 5.0
    assert loop.state().silent == 5.0
    loop.beat()
    progress.lived = 7.0
    assert (loop.state().silent, loop.state().awaited) == (2.0, None)


def test_what_is_bounded_elsewhere_is_no_silence(progress):
    loop = progress.loop("express")
    with loop.excused():
        with loop.excused():
            progress.lived = 500.0
        assert loop.state().silent == 0.0
        progress.lived = 600.0
    assert loop.state().silent == 0.0
    progress.lived = 601.0
    assert loop.state().silent == 1.0


def test_waiting_is_progress_and_is_named(progress):
    loop = progress.loop("dispatch")
    progress.lived = 10.0
    loop.beat(REDIS)
    progress.lived = 15.0
    loop.beat(Awaited("Redis", "still none"))
    progress.lived = 17.0
    state = loop.state()
    assert (state.silent, state.waits, state.awaited) == (2.0, 7.0, Awaited("Redis", "still none"))
    loop.beat(Awaited("Kafka", "no broker"))
    assert loop.state().waits == 0.0


def test_an_outage_is_a_line_when_it_begins_one_a_minute_and_one_when_it_ends(progress, time, told):
    loops = [progress.loop(str(number)) for number in range(4)]
    for _ in range(61):
        for loop in loops:
            loop.beat(REDIS)
        time.now += 1
    for loop in loops:
        loop.beat()
        loop.beat()
    assert told() == [
        "waiting for Redis: no answer",
        "still waiting for Redis, for 60 s: no answer",
        "Redis is there again, after 61.0 s",
    ]


def test_two_services_are_two_outages(progress, told):
    loop = progress.loop("relay")
    loop.beat(REDIS)
    loop.beat(Awaited("Kafka", "no broker"))
    loop.beat()
    assert told() == [
        "waiting for Redis: no answer",
        "Redis is there again, after 0.0 s",
        "waiting for Kafka: no broker",
        "Kafka is there again, after 0.0 s",
    ]


def test_a_loop_that_has_ended_is_no_longer_looked_at(progress):
    loop = progress.loop("ears")
    loop.end()
    assert progress.loops == []


def test_a_loop_is_silent_from_its_beginning_on(progress):
    progress.lived = 50.0
    loop = progress.loop("late")
    progress.lived = 52.0
    assert (loop.state().silent, loop.state().waits, loop.state().excused) == (2.0, 0.0, False)


def test_an_excuse_within_an_excuse_ends_alone(progress):
    loop = progress.loop("express")
    with loop.excused():
        progress.lived = 5.0
        assert (loop.state().silent, loop.state().excused) == (0.0, True)
        with loop.excused():
            pass
        progress.lived = 500.0
        assert (loop.state().silent, loop.state().excused) == (0.0, True)
    with pytest.raises(ZeroDivisionError), loop.excused():
        raise ZeroDivisionError
    progress.lived = 501.0
    assert (loop.state().silent, loop.state().excused) == (1.0, False)


def test_a_loop_that_ends_waits_no_longer(progress, told):
    loop = progress.loop("ears")
    loop.beat(REDIS)
    loop.end()
    loop.end()
    assert told() == ["waiting for Redis: no answer", "Redis is there again, after 0.0 s"]


def test_a_wait_that_goes_on_is_told_once(progress, told):
    loop = progress.loop("ears")
    for _ in range(3):
        loop.beat(REDIS)
    assert told() == ["waiting for Redis: no answer"]


def test_a_service_is_there_again_when_nobody_waits_for_it(progress, told):
    first, second = progress.loop("a"), progress.loop("b")
    first.beat(REDIS)
    second.beat(REDIS)
    progress.tell("c", REDIS, None)
    second.beat()
    assert len(told()) == 1
    first.beat()
    assert told()[1:] == ["Redis is there again, after 0.0 s"]
    progress.tell("c", REDIS, None)
    second.beat(REDIS)
    assert told()[2:] == ["waiting for Redis: no answer"]


def test_a_loop_knows_its_thread(progress):
    loop = progress.loop("a")
    assert loop.thread == threading.get_ident()
    thread = threading.Thread(target=loop.beat)
    thread.start()
    thread.join()
    assert loop.thread not in (0, threading.get_ident())


def test_who_ends_itself_has_the_exit_code_of_a_fault_in_a_program():
    assert os.EX_SOFTWARE == STUCK_EXIT
