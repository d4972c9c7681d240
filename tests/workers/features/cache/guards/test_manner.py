import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Manner


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Who is the president?", "Who was the president?"),
        ("Can I go?", "Should I go?"),
        ("What is my name?", "What is your name?"),
        ("Is his car red?", "Is her car red?"),
        ("Will it rain?", "Did it rain?"),
        ("Am I an employer?", "Are you an employer?"),
        ("Can I take it?", "Do I need to take it?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Manner().refuse(profile(asked), profile(cached))
    assert Manner().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("How do I open it?", "How can you open it?"),
        ("Who is the author of it?", "Who was it written by?"),
        ("Can I go?", "May I go?"),
        ("Who is it?", "Tell me who it is"),
        ("How do I open it?", "How do you open it?"),
        ("How long will it keep?", "How long does it keep?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Manner().refuse(profile(asked), profile(cached)) is None
    assert Manner().refuse(profile(cached), profile(asked)) is None
