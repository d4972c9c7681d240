import signal
import sys
import threading

import pytest

from headrace_workers.cli.interrupts import heard
from headrace_workers.features.generation.commands.serving import ends_on_sigterm


@pytest.fixture(autouse=True)
def hears_interrupts():
    """A shell lets what it starts in the background hear no Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Removed:
    """Raises what it is told to while it is removed."""

    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "Ctrl-C"]
)
def test_one_that_comes_where_nothing_can_be_raised_ends_the_command_all_the_same(number, ending):
    def command():
        with heard(), ends_on_sigterm():
            Removed(lambda: signal.raise_signal(number))
            threading.Event().wait(60)

    with pytest.raises(ending):
        command()


def test_other_errors_there_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with heard():
        for error in (ValueError, SystemExit):
            Removed(lambda error=error: (_ for _ in ()).throw(error))
    assert told == [ValueError, SystemExit]
    Removed(lambda: 1 / 0)
    assert told == [ValueError, SystemExit, ZeroDivisionError]
