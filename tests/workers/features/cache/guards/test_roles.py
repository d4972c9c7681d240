import pytest
from tests.workers.features.cache.guards.question_pairs import pairs, wordings

from headrace_workers.features.cache.guards import roles
from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.roles import Roles


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Did Ann help Bob?", "Did Bob help Ann?"),
        ("Convert 5 pounds into ounces", "Convert 5 ounces to pounds"),
        ("Did Ann help Bob?", "Was Ann helped by Bob?"),
        ("Who did Ann help?", "Who helped Ann?"),
        ("Convert PDF to Word", "Convert Word to PDF"),
        ("What does the cat chase?", "What chases the cat?"),
        ("A man in a straw hat smokes a cigarette", "A man in a hat smokes a straw cigarette"),
        ("A woman plays chess and a man sings", "A woman sings and a man plays chess"),
        ("The largest town in the smallest state", "The smallest town in the largest state"),
        ("How do I convert a string to a date object?", "How do I convert a date object to a string?"),
        ("Does a cat that runs chase dogs?", "Does a dog that runs chase cats?"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Roles().refuse(profile(asked), profile(cached))
    assert Roles().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Did Ann help Bob?", "Was Bob helped by Ann?"),
        ("Who helped Ann?", "By whom was Ann helped?"),
        ("Peru's capital", "The capital of Peru"),
        ("Sort a list in Python", "In Python, can one sort a list?"),
        ("Compare Ann and Bob", "Compare Bob and Ann"),
        ("Rome weather", "Weather in Rome"),
        ("The longest river", "Which river is the longest?"),
        ("the door of my car", "my car door"),
        (
            "All who ask. How do I fix a toilet that keeps running?",
            "All who ask. How do I fix a running toilet?",
        ),
        ("How do I fix a toilet that keeps running?", "How do I fix a running toilet?"),
        ("How do I prune a tree?", "How is a tree pruned?"),
        ("What does the option of rsync do?", "In rsync, what does the option do?"),
        ("At what temperature does ethanol boil?", "The boiling temperature of ethanol"),
        ("How long does learning the guitar take?", "How long do I need to learn the guitar?"),
        ("Bonn is the capital of which country?", "Which country's capital is Bonn?"),
        ("Should she call him if he calls her?", "If he calls her, should she call him?"),
        ("How does a bee differ from a wasp?", "What is the difference between a wasp and a bee?"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Roles().refuse(profile(asked), profile(cached)) is None
    assert Roles().refuse(profile(cached), profile(asked)) is None


def test_the_first_look_decides_as_the_long_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [pair for name in ("wordings.txt", "typed.txt") for kind in wordings(name) for pair in kind]
    asked = [(profile(one), profile(other)) for one, other in [*((a, c) for _, a, c in pairs()[::8]), *typed]]
    plain = [pair for pair in asked if roles._named_alike(*pair)]
    assert len(plain) > 1_000
    at_first = [Roles().refuse(*pair) for pair in plain]
    monkeypatch.setattr(roles, "_named_alike", lambda *_: False)
    assert [Roles().refuse(*pair) for pair in plain] == at_first
