import pytest

from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_words import QuickPattern, personal_names, postal_addresses


def test_text_that_is_no_unicode_is_searched() -> None:
    """A failure would hold the text."""
    assert QuickPattern("mill").search("\ud800 mill") is not None
    assert QuickPattern("mill").search("\ud800 wheel") is None


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
    (detections,) = personal_data.detect([text])
    assert [(detection.category, text[detection.start : detection.end]) for detection in detections] == [("name", name)]


@pytest.mark.parametrize(
    "text",
    [
        "Alan Turing wrote about machines.",
        "Dear Sir or Madam,\nwe write to you about the mill.",
        "Dear Customer,\nthe parcel has left.",
        "The name is not known. Monday is better.",
        "CALL ME WHEN U CAN",
        "Thanks\nto everyone who came.",
    ],
)
def test_other_capitalised_words_are_no_names(text: str) -> None:
    """People of whom a text speaks are left, and so is a greeting that names nobody."""
    assert list(personal_names(text)) == []


@pytest.mark.parametrize(
    "address",
    [
        "1412 Maple Street",
        "221B Baker Street, London NW1 6XE",
        "12 5th Avenue, Suite 4, Springfield, IL 62704",
        "P.O. Box 255, 3910 Kangerlussuaq",
        "Hauptstraße 14, 1010 Wien",
        "27 rue de la Paix, 75002 Paris",
        "Calle de Alcalá 45, 28014 Madrid",
        "Via Garibaldi 8, 20121 Milano",
        "Keizersgracht 174, 1016 DW Amsterdam",
        "ul. Długa 7, 00-238 Warszawa",
        "Kossuth Lajos utca 12., 1055 Budapest",
        "Männi 12, 45429 Mustoja",
    ],
)
def test_a_street_with_its_number_is_an_address(personal_data: PersonalDataDetector, address: str) -> None:
    text = f"Please send it to {address} today."
    (detections,) = personal_data.detect([text])
    assert [(detection.category, text[detection.start : detection.end]) for detection in detections] == [
        ("address", address)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "In 1999 the Supreme Court heard 20 cases.",
        "We met at Berkeley Square at 10 in the morning.",
        "On July 21, 2016 Congress adjourned.",
        "Boeing 747 and Airbus 380 flew to Rome.",
        "The road has 12 lanes, and 4000 people use it.",
        "Sales Data for 2023\n\nQ1 2023 and Q2 2023",
    ],
)
def test_numbers_in_prose_are_no_addresses(text: str) -> None:
    assert list(postal_addresses(text)) == []
