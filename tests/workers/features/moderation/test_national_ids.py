import pytest

from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_patterns import COUNTRIES, national_ids
from headrace_workers.features.moderation.personal_words import birth_dates


def spans(detector: PersonalDataDetector, text: str) -> list[tuple[str, str]]:
    return [(d.category, text[d.start : d.end]) for d in detector.detect([text])[0]]


def test_the_numbers_of_many_countries_are_known() -> None:
    """At least twenty countries have a shape and a checksum."""
    assert len(COUNTRIES) >= 20


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("My PESEL is 44051401359.", "44051401359"),
        ("DNI 12345678Z", "12345678Z"),
        ("codice fiscale RSSMRA85T10A562S", "RSSMRA85T10A562S"),
        ("BSN 111222333", "111222333"),
        ("hetu 131052-308T", "131052-308T"),
        ("She gave us ABCPE1234F.", "ABCPE1234F"),
        ("CPF 390.533.447-05", "390.533.447-05"),
        ("SIN 123-456-782", "123-456-782"),
        ("756.9217.0769.85 is hers", "756.9217.0769.85"),
        ("TC KİMLİK NO: 77710107886", "77710107886"),
        ("TC no 77710107886", "77710107886"),
        ("หมายเลขบัตรประชาชน 7 5445 35350 66 6", "7 5445 35350 66 6"),
        ("Thai PIN: 4-4183-28805-90-1", "4-4183-28805-90-1"),
        ("תעודת זהות: 123696973", "123696973"),
        ("आधार संख्या: 3406 0328 3662", "3406 0328 3662"),
        ("Единен граждански номер: 5402029326", "5402029326"),
    ],
)
def test_a_national_number_is_found(personal_data: PersonalDataDetector, text: str, number: str) -> None:
    """A valid number is found by its own shape, or behind a word that names it."""
    assert spans(personal_data, text) == [("national_id", number)]


@pytest.mark.parametrize(
    "text", ["My PESEL is 44051401358.", "order number 111222333", "codice fiscale RSSMRA85T10A562T", "DNI 12345678A"]
)
def test_a_wrong_or_unnamed_number_is_none(personal_data: PersonalDataDetector, text: str) -> None:
    """A number whose checksum fails, or which may be any number, is left."""
    assert spans(personal_data, text) == []


def test_doubtful_numbers_need_a_word() -> None:
    """Where no word for such a number stands in the text, numbers of digits alone are not even tried."""
    assert list(national_ids("order 111222333")) == []
    assert list(national_ids("bsn 111222333")) != []


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("She was born on 12 March 1985 in Rome.", "12 March 1985"),
        ("DOB: 03/04/1990", "03/04/1990"),
        ("geboren am 3. Mai 1971", "3. Mai 1971"),
        ("Date of birth 1971-05-03", "1971-05-03"),
        ("Fecha de nacimiento: 3 de mayo de 1971", "3 de mayo de 1971"),
    ],
)
def test_a_date_of_birth_is_found(personal_data: PersonalDataDetector, text: str, date: str) -> None:
    """A date behind a word of birth is found, and the date alone is the span."""
    assert spans(personal_data, text) == [("birth_date", date)]


@pytest.mark.parametrize(
    "text", ["The mill opened on 12 March 1985.", "He was born in 1985.", "born to run. 3 May 1971"]
)
def test_other_dates_are_left(text: str) -> None:
    """A date without a word of birth in its sentence, and a year alone, are no dates of birth."""
    assert list(birth_dates(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "192.168.100.200",
        "203.0.113.9",
        "2001:db8::1",
        "user@example.com",
        "a@mail.Example.org",
        "a@corp.example",
    ],
)
def test_reserved_addresses_are_not_personal(personal_data: PersonalDataDetector, text: str) -> None:
    """Private and reserved addresses, and domains for examples, identify nobody; nor are they telephone numbers."""
    assert spans(personal_data, f"See {text} today") == []


@pytest.mark.parametrize(
    ("text", "category"), [("81.2.69.142", "ip_address"), ("ann@headrace.io", "email"), ("a@notexample.com", "email")]
)
def test_other_addresses_are_personal(personal_data: PersonalDataDetector, text: str, category: str) -> None:
    """Addresses that someone may have are personal."""
    assert spans(personal_data, f"See {text} today") == [(category, text)]
