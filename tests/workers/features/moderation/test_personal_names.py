"""Names where a text says that a name stands."""

import pytest

from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_words import personal_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is Marie Curie, and I moved.", "Marie Curie"),
        ("Name: Jan van Eyck\nCity: Bruges", "Jan van Eyck"),
        ("Dear Ms. Lovelace,\nthank you for your letter.", "Lovelace"),
        ("Dear Ada,\nthe engine runs.", "Ada"),
        ("Ich heiße Käthe Kollwitz.", "Käthe Kollwitz"),
        ("See you on Monday.\n\nKind regards,\nGrace Hopper", "Grace Hopper"),
        ("My name is wrong on the card, please change it to Alan M. Turing.", "Alan M. Turing"),
    ],
)
def test_a_name_behind_a_word_for_it_is_found(personal_data: PersonalDataDetector, text: str, name: str) -> None:
    """The name alone is the span: greeting and title stay."""
    (found,) = personal_data.detect([text])
    assert [(each.category, text[each.start : each.end]) for each in found] == [("name", name)]


@pytest.mark.parametrize(
    "text",
    [
        "Alan Turing wrote about machines.",
        "Dear Sir or Madam,\nwe write to you about the mill.",
        "Dear Customer,\nthe parcel has left.",
        "The name is not known. Monday is better.",
        "Thanks\nto everyone who came.",
    ],
)
def test_other_capitalised_words_are_no_names(text: str) -> None:
    """People of whom a text speaks are left, and so is a greeting that names nobody."""
    assert list(personal_names(text)) == []
