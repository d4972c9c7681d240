import pytest

from headrace_workers.features.judging.groundedness.sentences import alike, hidden, known_names, names_in

TOLD = ["The bridge was designed by Ines Corrada.", "In Lisbon she met Peter Malling."]


def test_names_are_known_by_their_last_words_too() -> None:
    """So that a sentence may begin with one."""
    assert known_names(TOLD) == {"Ines Corrada", "Corrada", "Lisbon", "Peter Malling", "Malling"}


@pytest.mark.parametrize(
    ("sentence", "found", "says"),
    [
        ("Corrada designed it in Lisbon.", ["Corrada", "Lisbon"], "X designed it in X."),
        ("Bridges are what Peter Malling drew.", ["Peter Malling"], "Bridges are what X drew."),
        ("In Porto they met.", ["Porto"], "In X they met."),
        ("Nobody was there.", [], "Nobody was there."),
        ("", [], ""),
    ],
)
def test_what_is_told_of_somebody(sentence: str, found: list[str], says: str) -> None:
    assert names_in(sentence, known_names(TOLD)) == found
    assert hidden(sentence, found) == says


def test_a_part_of_a_name_is_that_name() -> None:
    assert alike("Corrada", "Ines Corrada")
    assert not alike("Ines Corrada", "Peter Malling")
