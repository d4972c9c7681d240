import pytest
from tests.workers.features.cache.guards.question_pairs import pairs, wordings

from headrace_workers.features.cache.guards import roles
from headrace_workers.features.cache.guards.refusal import Guard
from headrace_workers.features.cache.guards.roles import Directions, Roles
from headrace_workers.text.profile import profile

REFUSED = (
    (Directions(), "Flights from Rome", "Flights to Rome"),
    (Directions(), "The office above the bank", "The office below the bank"),
    (Directions(), "Talk about Ann", "Talk to Ann"),
    (Directions(), "Books by Twain", "Books about Twain"),
    (Directions(), "Walk into the shop", "Walk out of the shop"),
    (Directions(), "Sit behind the tree", "Sit near the tree"),
    (Directions(), "Work as a designer", "Work with a designer"),
    (Directions(), "Convert a string to a number", "Convert a number to a string"),
    (Roles(), "Did Ann help Bob?", "Did Bob help Ann?"),
    (Roles(), "Convert 5 pounds into ounces", "Convert 5 ounces to pounds"),
    (Roles(), "Did Ann help Bob?", "Was Ann helped by Bob?"),
    (Roles(), "Who did Ann help?", "Who helped Ann?"),
    (Roles(), "Convert PDF to Word", "Convert Word to PDF"),
    (Roles(), "What does the cat chase?", "What chases the cat?"),
    (Roles(), "A man in a straw hat smokes a cigarette", "A man in a hat smokes a straw cigarette"),
    (Roles(), "A woman plays chess and a man sings", "A woman sings and a man plays chess"),
    (Roles(), "The largest town in the smallest state", "The smallest town in the largest state"),
    (Roles(), "How do I convert a string to a date object?", "How do I convert a date object to a string?"),
    (Roles(), "Does a cat that runs chase dogs?", "Does a dog that runs chase cats?"),
)
PASSED = (
    (Directions(), "Weather in Rome", "Weather for Rome"),
    (Directions(), "Rome weather", "Weather in Rome"),
    (Directions(), "Flights from Rome to Oslo", "Flights to Oslo from Rome"),
    (Directions(), "between Ann and Bob", "between Bob and Ann"),
    (Directions(), "Who won the Davis Cup?", "Name the winner of the Davis Cup"),
    (Directions(), "A stain on the carpet", "A stain out of the carpet"),
    (Directions(), "A book on Rome", "A book about Rome"),
    (Directions(), "Peel it before cooking", "Peel it before you cook it"),
    (Directions(), "How far is Oslo from Rome?", "The distance between Rome and Oslo"),
    (Roles(), "Did Ann help Bob?", "Was Bob helped by Ann?"),
    (Roles(), "Who helped Ann?", "By whom was Ann helped?"),
    (Roles(), "Peru's capital", "The capital of Peru"),
    (Roles(), "Sort a list in Python", "In Python, can one sort a list?"),
    (Roles(), "Compare Ann and Bob", "Compare Bob and Ann"),
    (Roles(), "Rome weather", "Weather in Rome"),
    (Roles(), "The longest river", "Which river is the longest?"),
    (Roles(), "the door of my car", "my car door"),
    (Roles(), "All who ask. How do I fix a toilet that keeps running?", "All who ask. How do I fix a running toilet?"),
    (Roles(), "How do I fix a toilet that keeps running?", "How do I fix a running toilet?"),
    (Roles(), "How do I prune a tree?", "How is a tree pruned?"),
    (Roles(), "What does the option of rsync do?", "In rsync, what does the option do?"),
    (Roles(), "At what temperature does ethanol boil?", "The boiling temperature of ethanol"),
    (Roles(), "How long does learning the guitar take?", "How long do I need to learn the guitar?"),
    (Roles(), "Bonn is the capital of which country?", "Which country's capital is Bonn?"),
    (Roles(), "Should she call him if he calls her?", "If he calls her, should she call him?"),
    (Roles(), "How does a bee differ from a wasp?", "What is the difference between a wasp and a bee?"),
)


@pytest.mark.parametrize(("guard", "asked", "cached"), REFUSED)
def test_refuses(guard: Guard, asked: str, cached: str) -> None:
    assert guard.refuse(profile(asked), profile(cached))
    assert guard.refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(("guard", "asked", "cached"), PASSED)
def test_passes(guard: Guard, asked: str, cached: str) -> None:
    assert guard.refuse(profile(asked), profile(cached)) is None
    assert guard.refuse(profile(cached), profile(asked)) is None


def test_the_first_look_decides_as_the_long_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [pair for name in ("wordings.txt", "typed.txt") for kind in wordings(name) for pair in kind]
    asked = [(profile(one), profile(other)) for one, other in [*((a, c) for _, a, c in pairs()[::8]), *typed]]
    plain = [pair for pair in asked if roles._named_alike(*pair)]
    assert len(plain) > 1_000
    at_first = [Roles().refuse(*pair) for pair in plain]
    monkeypatch.setattr(roles, "_named_alike", lambda *_: False)
    assert [Roles().refuse(*pair) for pair in plain] == at_first
