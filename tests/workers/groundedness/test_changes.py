"""A sentence with one thing changed."""

from headrace_workers.groundedness.changes import opposite, other_names, other_numbers

EVIDENCE = [
    "The bridge was designed by Ines Corrada in Lisbon, 412 metres long.",
    "Peter Malling came to Trieste in 1931 with 15 men.",
]


def test_other_numbers_are_those_of_the_evidence_and_of_like_size() -> None:
    """A number that stands in the sentence already is no other."""
    assert list(other_numbers("It has 340 rooms and 15 doors.", EVIDENCE)) == [
        "It has 412 rooms and 15 doors.",
        "It has 1931 rooms and 15 doors.",
        "It has 340 rooms and 412 doors.",
    ]


def test_other_names_are_used_alike() -> None:
    """A place is put for a place, and who does something for another who does."""
    assert list(other_names("They met Peter Malling in Trieste.", EVIDENCE)) == [
        "They met Ines Corrada in Trieste.",
        "They met Peter Malling in Lisbon.",
    ]


def test_the_opposite() -> None:
    """A denial is taken out, or put behind the first auxiliary; without one nothing can be said."""
    assert opposite("It was not opened.") == "It was opened."
    assert opposite("It was opened.") == "It was not opened."
    assert opposite("They left without a word.") == "They left with a word."
    assert opposite("They left.") is None
