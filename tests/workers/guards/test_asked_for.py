"""The guard of asked for."""

import pytest

from headrace_workers.guards.asked_for import AskedFor
from headrace_workers.guards.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("When was it built?", "Where was it built?"),
        ("Who did it?", "Why did he do it?"),
        ("The population of Peru", "The area of Peru"),
        ("Is it safe?", "Why is it safe?"),
        ("How many planets are there?", "Which planets are there?"),
        ("How long is it?", "How old is it?"),
        ("Can I cancel it?", "How can I cancel it?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another question word or property, whichever was cached, and says why."""
    assert AskedFor().refuse(profile(asked), profile(cached))
    assert AskedFor().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("What year was it built?", "When was it built?"),
        ("What is the way to open it?", "How do I open it?"),
        ("What is the reason for it?", "Why is it?"),
        ("Tell me the author of it", "Who is the author of it?"),
        ("How come it rains?", "Why is it that it rains?"),
        ("What is the population of Peru?", "How many people live in Peru?"),
        ("I want to open it", "How do I open it?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same in other words."""
    assert AskedFor().refuse(profile(asked), profile(cached)) is None
    assert AskedFor().refuse(profile(cached), profile(asked)) is None
