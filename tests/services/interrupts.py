"""Ctrl-C for processes of tests."""

import signal


def hear_interrupts() -> None:
    """As on a terminal: what runs in the background of a script ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
