"""The guard of units."""

import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.units_of_measure import Units


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("How far is it in miles?", "How far is it in kilometres?"),
        ("5 kg of flour", "5 lb of flour"),
        ("Pay $20", "Pay €20"),
        ("Take 5 ml", "Take 5 mg"),
        ("Wait 5 minutes", "Wait 5 seconds"),
        ("20 % of it", "20 of it"),
        ("How many grams of it?", "How many ounces of it?"),
        ("How long is it in minutes?", "How long is it in hours?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    """It refuses another unit, whichever was cached, and says why."""
    assert Units().refuse(profile(asked), profile(cached))
    assert Units().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("5 km away", "5 kilometres away"),
        ("5km away", "5 kilometers away"),
        ("20% of it", "20 percent of it"),
        ("Pay $20", "Pay 20 dollars"),
        ("My foot hurts", "My feet hurt"),
        ("Give me a second chance", "Give me a second chance now"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    """It passes the same unit by another name."""
    assert Units().refuse(profile(asked), profile(cached)) is None
    assert Units().refuse(profile(cached), profile(asked)) is None
