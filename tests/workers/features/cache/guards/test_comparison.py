"""The guard of comparison."""

import pytest

from headrace_workers.features.cache.guards.comparatives import Comparison
from headrace_workers.features.cache.guards.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is it more useful?", "Is it less useful?"),
        ("Is Ann older than Bob?", "Is Bob older than Ann?"),
        ("The most useful one", "The least useful one"),
        ("The best one", "The worst one"),
        ("What is the best of them?", "What is the end of them?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another direction or side, whichever was cached, and says why."""
    assert Comparison().refuse(profile(asked), profile(cached))
    assert Comparison().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is Ann older than Bob?", "Tell me if Ann is older than Bob"),
        ("The best one", "Which is the best one?"),
        ("The best card for travel", "A good card for travel"),
        ("The best card for travel", "Which card should I take for travel?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same comparison."""
    assert Comparison().refuse(profile(asked), profile(cached)) is None
    assert Comparison().refuse(profile(cached), profile(asked)) is None
