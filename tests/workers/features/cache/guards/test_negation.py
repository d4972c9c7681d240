import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Negation


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is it safe?", "Is it not safe?"),
        ("Is it safe?", "Is it unsafe?"),
        ("Why does it start?", "Why doesn't it start?"),
        ("Travel with a visa", "Travel without a visa"),
        ("A refundable ticket", "A non-refundable ticket"),
        ("Do cats swim?", "Do cats never swim?"),
        ("It is possible", "It is impossible"),
        ("Connect it", "Disconnect it"),
        ("Tea with sugar", "Sugarless tea"),
        ("I can go", "I can't go"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Negation().refuse(profile(asked), profile(cached))
    assert Negation().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Is it unsafe?", "Is it not safe?"),
        ("Why isn't it open?", "Why is it not open?"),
        ("It cannot start", "It can not start"),
        ("I am unable to go", "I can't go"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Negation().refuse(profile(asked), profile(cached)) is None
    assert Negation().refuse(profile(cached), profile(asked)) is None
