"""The time limit and the failures of verifiers."""

import time
from collections.abc import Callable
from typing import TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable

T = TypeVar("T")


def within(name: str, most_seconds: float | None, answer: Callable[[], T]) -> tuple[T, float] | HeadraceError:
    """Return what a verifier answers, and after how many seconds; or why it has not answered: it failed, or took more
    than `most_seconds`.
    """
    began = time.monotonic()
    try:
        found = answer()
    except HeadraceError as error:
        return error
    except Exception as error:  # a library raises whatever its parts do; its text may quote users
        return Unavailable(f"the verifier {name} failed with {type(error).__name__}")
    took = time.monotonic() - began
    if most_seconds is not None and took > most_seconds:
        return Unavailable(f"the verifier {name} took {took:.1f} s; it may take {most_seconds:g} s")
    return found, took
