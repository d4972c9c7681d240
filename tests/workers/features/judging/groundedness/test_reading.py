import pytest

from headrace_workers.features.judging.groundedness.sentences import read, written_names


@pytest.mark.parametrize(
    ("sentence", "numbers"),
    [
        ("One can have 12 media at once.", {"12"}),
        ("He fell twice on 4 May 1931.", {"2", "4", "5", "1931"}),
        ("Nobody came.", set()),
        ("A 1.8-metre fence and a 9-year-old girl.", {"1.8", "9"}),
        ("A two-storey house stood for forty days.", {"2", "40"}),
        ("On the 3rd of May.", {"5", "3"}),
    ],
)
def test_numbers_are_those_that_count_something(sentence: str, numbers: set[str]) -> None:
    assert read(sentence).numbers == numbers


def test_units_are_those_of_a_number() -> None:
    assert read("A 1.8-metre fence for forty days.").units == {"m", "day"}
    assert read("The days are long.").units == frozenset()


def test_a_small_word_before_a_name_is_none_of_it() -> None:
    assert written_names("In Gdansk Anna Lund met The Hague.") == ["Gdansk Anna Lund", "Hague"]
    assert written_names("Since Monday it has been shown in Gdansk.") == ["Gdansk"]
    assert written_names("Gdansk is where it was.") == []
