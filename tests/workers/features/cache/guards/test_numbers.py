import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Numbers


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Buy 2 shirts", "Buy 3 shirts"),
        ("Mix 5 apples and 3 pears", "Mix 3 apples and 5 pears"),
        ("The second floor", "The third floor"),
        ("Boil a dozen eggs", "Boil ten eggs"),
        ("Is 0.5 enough?", "Is 0.05 enough?"),
        ("World War II", "World War III"),
        ("Version 3", "Version"),
        ("What is 5 - 3?", "What is -5 - 3?"),
        ("The energy of one egg", "The energy of two eggs"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Numbers().refuse(profile(asked), profile(cached))
    assert Numbers().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Buy two shirts", "Buy 2 shirts"),
        ("Pay 1,500.50 now", "Pay 1500.5 now"),
        ("twenty-five years", "25 years"),
        ("two hundred and five days", "205 days"),
        ("a dozen eggs", "12 eggs"),
        ("1.5 million people", "1,500,000 people"),
        ("the 3rd floor", "the third floor"),
        ("How does one open it?", "How do you open it?"),
        ("Pay ５ now", "Pay 5 now"),
        ("The energy of one egg", "The energy of an egg"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Numbers().refuse(profile(asked), profile(cached)) is None
    assert Numbers().refuse(profile(cached), profile(asked)) is None
