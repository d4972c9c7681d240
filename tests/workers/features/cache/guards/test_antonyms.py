"""The guard of antonyms."""

import pytest

from headrace_workers.features.cache.guards.antonyms import Antonyms
from headrace_workers.features.cache.guards.profile import profile


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is it open?", "Is it closed?"),
        ("Eat before running", "Eat after running"),
        ("The minimum age", "The maximum age"),
        ("Lock the door", "Unlock the door"),
        ("Turn on the light", "Turn off the light"),
        ("Buy shares", "Sell shares"),
        ("Import it", "Export it"),
        ("Increase it", "Reduce it"),
        ("Older than me", "Younger than me"),
        ("The first page", "The last page"),
        ("Turn left", "Turn right"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses a word against its opposite, whichever was cached, and says why."""
    assert Antonyms().refuse(profile(asked), profile(cached))
    assert Antonyms().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is it open?", "Is it opened?"),
        ("Turn on the light", "Enable the light"),
        ("Buy shares", "Purchase shares"),
        ("Open and close it", "Close and open it"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes words of one side."""
    assert Antonyms().refuse(profile(asked), profile(cached)) is None
    assert Antonyms().refuse(profile(cached), profile(asked)) is None
