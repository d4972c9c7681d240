"""The guard of names."""

import pytest

from headrace_workers.features.cache.guards.names import Names
from headrace_workers.features.cache.guards.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Where is Paris?", "Where is London?"),
        ("Is the WHO right?", "Is the UN right?"),
        ("Ask Anna and Bob", "Ask Anna and Carl"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another name, whichever was cached, and says why."""
    assert Names().refuse(profile(asked), profile(cached))
    assert Names().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Where is Paris?", "where is paris"),
        ("the capital of the USA", "the capital of the United States"),
        ("Is it in the U.S.?", "Is it in the US?"),
        ("Paris?", "Where is Paris?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same name in any case."""
    assert Names().refuse(profile(asked), profile(cached)) is None
    assert Names().refuse(profile(cached), profile(asked)) is None
