import pytest

from headrace_workers.features.cache.guards.profile import profile
from headrace_workers.features.cache.guards.roles import Directions


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Flights from Rome", "Flights to Rome"),
        ("The office above the bank", "The office below the bank"),
        ("Talk about Ann", "Talk to Ann"),
        ("Books by Twain", "Books about Twain"),
        ("Walk into the shop", "Walk out of the shop"),
        ("Sit behind the tree", "Sit near the tree"),
        ("Work as a designer", "Work with a designer"),
        ("Convert a string to a number", "Convert a number to a string"),
    ],
)
def test_refuses(asked: str, cached: str) -> None:
    assert Directions().refuse(profile(asked), profile(cached))
    assert Directions().refuse(profile(cached), profile(asked))


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("Weather in Rome", "Weather for Rome"),
        ("Rome weather", "Weather in Rome"),
        ("Flights from Rome to Oslo", "Flights to Oslo from Rome"),
        ("between Ann and Bob", "between Bob and Ann"),
        ("Who won the Davis Cup?", "Name the winner of the Davis Cup"),
        ("A stain on the carpet", "A stain out of the carpet"),
        ("A book on Rome", "A book about Rome"),
        ("Peel it before cooking", "Peel it before you cook it"),
        ("How far is Oslo from Rome?", "The distance between Rome and Oslo"),
    ],
)
def test_passes(asked: str, cached: str) -> None:
    assert Directions().refuse(profile(asked), profile(cached)) is None
    assert Directions().refuse(profile(cached), profile(asked)) is None
