import json
import logging
import sys

import pytest

from headrace_workers.core.log import Seldom, _Lines


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


HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x7f\x9b31m\u2028b\u202ec\n2026-01-01T00:00:00 INFO    headrace.run: forged"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\x7f\x9b31m\u2028b\u202ec\n2026-01-01T00:00:00 INFO    headrace.run: forged"


def written(as_json, message, error=None, **fields):
    """The log's text about this message."""
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("headrace.models", logging.WARNING, __file__, 1, "%s", (message,), info)
    record.fields = fields
    return _Lines(as_json).format(record)


def test_control_characters_of_a_text_are_escapes():
    text = written(False, HOSTILE, file=HOSTILE, kept="é 😀")
    assert f"headrace.models: {SHOWN} file={SHOWN} kept=é 😀" in text
    assert text.isprintable()


def test_a_reader_of_json_meets_no_control_characters():
    found = json.loads(written(True, HOSTILE, file=HOSTILE, path=Exception(HOSTILE)))
    assert (found["message"], found["file"], found["path"]) == (SHOWN, SHOWN, SHOWN)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_text_of_an_exception_is_one_line_of_its_traceback(as_json):
    def fail():
        try:
            raise KeyError(HOSTILE)
        except KeyError as error:
            raise ExceptionGroup(HOSTILE, [ValueError(HOSTILE)]) from error

    try:
        fail()
    except ExceptionGroup:
        text = written(as_json, "a step failed", sys.exception())
    lines = (json.loads(text)["error"] if as_json else text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert sum("Traceback (most recent call last)" in line for line in lines) >= 2
    assert any(line.startswith("KeyError: ") for line in lines)
    assert f"ValueError: {SHOWN}" in lines


def test_the_stack_of_a_thread_keeps_its_lines():
    stack = '  File "a.py", line 1, in run\n    wait()\n'
    assert written(False, "it hangs", stack=stack).endswith(f"it hangs\n{stack}")
    assert json.loads(written(True, "it hangs", stack=stack))["stack"] == stack
