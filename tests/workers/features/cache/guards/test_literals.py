"""The guard of literals."""

import pytest

from headrace_workers.features.cache.guards.literals import Literals
from headrace_workers.features.cache.guards.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ('Translate "good day"', 'Translate "good night"'),
        ("Read report_2023.csv", "Read report_2024.csv"),
        ("Write to a@example.com", "Write to b@example.com"),
        ("Open https://example.com/A", "Open https://example.com/a"),
        ("What is C++?", "What is C#?"),
        ("Is x > y?", "Is x < y?"),
        ("What is `x == y`?", "What is `x != y`?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another literal, whichever was cached, and says why."""
    assert Literals().refuse(profile(asked), profile(cached))
    assert Literals().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ('Translate "good day"', 'Please translate "good day" now'),
        ("Write to A@Example.com", "Write to a@example.com"),
        ("Open HTTPS://Example.com/A", "Open https://example.com/A"),
        ("Who wrote 'Emma'?", "Who wrote Emma?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same literal."""
    assert Literals().refuse(profile(asked), profile(cached)) is None
    assert Literals().refuse(profile(cached), profile(asked)) is None
