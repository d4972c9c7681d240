"""The guard of quantifiers."""

import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.quantifiers import Quantifiers


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Do all birds fly?", "Do some birds fly?"),
        ("At least 3", "At most 3"),
        ("More than 3", "Fewer than 3"),
        ("Only cats", "Cats"),
        ("Always wet", "Sometimes wet"),
        ("Both doors", "Either door"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another quantity, whichever was cached, and says why."""
    assert Quantifiers().refuse(profile(asked), profile(cached))
    assert Quantifiers().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("All birds", "Every bird"),
        ("Only cats", "Solely cats"),
        ("How many cats?", "What number of cats?"),
        ("No fewer than 3", "At least 3"),
        ("Block a number", "Block someone's number"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same quantity."""
    assert Quantifiers().refuse(profile(asked), profile(cached)) is None
    assert Quantifiers().refuse(profile(cached), profile(asked)) is None
