"""What a test does when a service is not there: skip on a developer's machine, fail in CI."""

import os
from typing import TypeVar

import pytest

T = TypeVar("T")


def need(service: T | None, reason: str) -> T:
    """The service; without one the test is skipped with the reason, or fails where CI is set."""
    if service is not None:
        return service
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)
