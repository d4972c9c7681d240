import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import SharedWords


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The left hand moves right", "The left hand moves left"),
        ("Is a dog bigger than a dog house?", "Is a dog bigger than a house?"),
        ("Can I use my wife's card?", "Can my wife use my card?"),
        ("Can my son's boss fire me?", "Can my boss fire my son?"),
        ("Does my mother owe my friend?", "Does my friend owe my mother?"),
    ],
)
def test_refuses(one: str, other: str) -> None:
    assert SharedWords().refuse(profile(one), profile(other))
    assert SharedWords().refuse(profile(other), profile(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Can I use my wife's card?", "May I use my wife's card?"),
        ("How do I reset my router?", "My router, how do I reset it?"),
        ("Is a dog big?", "Is a cat big?"),
        ("How can my son learn to swim?", "How does my son learn swimming?"),
    ],
)
def test_passes(one: str, other: str) -> None:
    assert SharedWords().refuse(profile(one), profile(other)) is None
    assert SharedWords().refuse(profile(other), profile(one)) is None
