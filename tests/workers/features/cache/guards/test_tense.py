import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.wording import Tense


@pytest.mark.parametrize(
    ("asked", "cached"),
    [("Who is the president?", "Who was the president?"), ("Will it rain?", "Did it rain?")],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Tense().refuse(profile(asked), profile(cached))
    assert Tense().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Who is the author of it?", "Who was it written by?"),
        ("Who is it?", "Tell me who it is"),
        ("How long will it keep?", "How long does it keep?"),
        ("Why won't it start?", "Why doesn't it start?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Tense().refuse(profile(asked), profile(cached)) is None
    assert Tense().refuse(profile(cached), profile(asked)) is None
