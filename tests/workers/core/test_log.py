import logging

import pytest

from headrace_workers.core.log import Seldom


@pytest.fixture
def minutes():
    now = [0.0]
    return Seldom(60.0, lambda: now[0] * 60), now


def line(name, text="no broker", level=logging.ERROR):
    return logging.LogRecord(name, level, __file__, 1, text + " %s", ("%",), None)


def test_a_library_in_trouble_is_a_line_a_minute(minutes):
    seldom, now = minutes
    first, other = line("kafka.net.connection"), line("celery.worker")
    assert seldom.filter(first)
    assert seldom.filter(other)
    assert not any(seldom.filter(line("kafka.cluster")) for _ in range(270))
    now[0] = 1.1
    later, last = line("kafka.cluster"), line("kafka.cluster")
    assert seldom.filter(later)
    assert later.getMessage() == "no broker % (and 270 lines of kafka before)"
    assert first.getMessage() == other.getMessage() == "no broker %"
    now[0] = 2.2
    assert seldom.filter(last)
    assert last.getMessage() == "no broker %"


def test_what_headrace_says_and_what_is_critical_is_always_written(minutes):
    seldom, _ = minutes
    assert all(seldom.filter(line("headrace.run")) for _ in range(3))
    assert all(seldom.filter(line("celery.worker", level=logging.CRITICAL)) for _ in range(3))
