"""Each pattern with its checksum: which numbers and addresses there can be."""

from collections.abc import Callable

import pytest

from headrace_workers.features.moderation import personal_patterns as patterns
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_patterns import national_ids
from headrace_workers.features.moderation.personal_words import birth_dates


def found(recognize: Callable[[str], patterns.Spans], text: str) -> list[tuple[str, float]]:
    return [(text[start:end], score) for start, end, score in recognize(text)]


@pytest.mark.parametrize(
    ("address", "score"),
    [
        ("jo@example.com", 1.0),
        ("jo@mail.example.co.uk", 1.0),
        ("jo@mail.internal", 0.5),
        ("jo@host.xn--p1ai", 1.0),
        ("jo@उदाहरण.परीक्षा", 0.5),  # marks belong to its letters
        ("lodash@4.17.21", None),
        ("jo@host.x", None),
        ("a@b@example.com", 1.0),
        ("jo@example.c0m", None),
    ],
)
def test_domains_that_there_are(address: str, score: float | None) -> None:
    assert patterns.email_score(address) == score


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("GB29 NWBK 6016 1331 9268 19", "GB29 NWBK 6016 1331 9268 19"),
        ("MT84MALT011000012345MTLCAST001S.", "MT84MALT011000012345MTLCAST001S"),
        ("NO93-8601-1117-947", "NO93-8601-1117-947"),
        ("RU03 0445 2522 5408 1781 0538 0913 1041 9", "RU03 0445 2522 5408 1781 0538 0913 1041 9"),
        ("DE89 3704 0044 0532 0130 00 EUR", "DE89 3704 0044 0532 0130 00"),
        ("in DE89370400440532013000 2 days", "DE89370400440532013000"),
        ("LT93 7993 5616 0712 5131 EUR", "LT93 7993 5616 0712 5131"),  # the checksum fits the currency, too
        ("XDE89370400440532013000", None),
        ("DE89370400440532013001", None),
        ("ZZ68539007547034", None),  # no such country
    ],
)
def test_account_numbers_end_where_their_country_says(text: str, number: str | None) -> None:
    assert found(patterns.account_numbers, text) == ([] if number is None else [(number, 1.0)])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4111-1111-1111-1111", "4111-1111-1111-1111"),
        ("４111111111111111", None),  # the first digit is looked for as it is
        ("4111１１１１１１１１1111", "4111１１１１１１１１1111"),
        ("30569309025904", "30569309025904"),
        ("4111111111111112", None),
        ("1700000000000", None),  # milliseconds since the epoch
    ],
)
def test_card_numbers_have_a_checksum(text: str, number: str | None) -> None:
    assert found(patterns.card_numbers, text) == ([] if number is None else [(number, 1.0)])


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("10.0.0.1/8", [("10.0.0.1/8", 0.6)]),
        ("10.0.0.256", []),
        ("::ffff:192.0.2.33", [("::ffff:192.0.2.33", 0.6)]),  # not the last part once more
        ("64:ff9b::192.0.2.33", [("64:ff9b::192.0.2.33", 0.6)]),
        ("2001:db8::/32", [("2001:db8::/32", 0.6)]),
        ("fe80::1%eth0", [("fe80::1%eth0", 0.6)]),
        ("1:2:3:4:5:6:7:8", [("1:2:3:4:5:6:7:8", 0.6)]),
        ("listen on ::", [("::", 0.1)]),
        ("std::vector", []),
        ("12:30:45", []),
    ],
)
def test_addresses_are_those_of_the_internet_protocol(text: str, findings: list[tuple[str, float]]) -> None:
    assert found(patterns.ip_addresses, text) == findings


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("536-22-1234", 0.5),
        ("536 22 1234", 0.5),
        ("536.22.1234", 0.5),
        ("536-22.1234", None),
        ("536221234", 0.05),
        ("53622-1234", 0.05),
        ("536-221234", 0.05),
        *((number, None) for number in ("000-22-1234", "666-22-1234", "536-00-1234", "536-22-0000", "111-11-1111")),
        *((number, None) for number in ("123456789", "987-65-4320", "078-05-1120")),
    ],
)
def test_social_security_numbers_that_are_issued(text: str, score: float | None) -> None:
    assert found(patterns.social_security_numbers, text) == ([] if score is None else [(text, score)])


@pytest.mark.parametrize(
    ("text", "score"),
    [("912-70-1234", 0.5), ("91270-1234", 0.05), ("912 701234", 0.05), ("912701234", 0.3), ("912-66-1234", None)],
)
def test_taxpayer_numbers_have_certain_groups(text: str, score: float | None) -> None:
    assert found(patterns.taxpayer_numbers, text) == ([] if score is None else [(text, score)])


@pytest.mark.parametrize("text", ["AB123456C", "ab 12 34 56 d"])
def test_national_insurance_numbers(text: str) -> None:
    assert found(patterns.national_insurance_numbers, text) == [(text, 0.5)]
    for prefix in ("Gb", "BG", "NT", "DA", "AO"):
        assert found(patterns.national_insurance_numbers, prefix + text[2:]) == []


def spans(detector: PersonalDataDetector, text: str) -> list[tuple[str, str]]:
    return [(d.category, text[d.start : d.end]) for d in detector.detect([text])[0]]


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
    assert spans(personal_data, text) == [("national_id", number)]


@pytest.mark.parametrize(
    "text", ["My PESEL is 44051401358.", "order number 111222333", "codice fiscale RSSMRA85T10A562T", "DNI 12345678A"]
)
def test_a_wrong_or_unnamed_number_is_none(personal_data: PersonalDataDetector, text: str) -> None:
    assert spans(personal_data, text) == []


def test_doubtful_numbers_need_a_word() -> None:
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
        ("Nací en Sevilla el 3 de mayo del 2001.", "3 de mayo del 2001"),
        ("F. nac.: 03-05-1971", "03-05-1971"),
        ("Nasci no dia 3 de maio de 1971.", "3 de maio de 1971"),
        ("Data de nasc.: 03/05/1971", "03/05/1971"),
        ("Urodziłam się 3 maja 1971 roku.", "3 maja 1971"),
        ("Data urodzenia: 03.05.1971", "03.05.1971"),
        ("Jan Kowalski, ur. 12 III 1985", "12 III 1985"),
    ],
)
def test_a_date_of_birth_is_found(personal_data: PersonalDataDetector, text: str, date: str) -> None:
    assert spans(personal_data, text) == [("birth_date", date)]


@pytest.mark.parametrize(
    "text",
    [
        "The mill opened on 12 March 1985.",
        "He was born in 1985.",
        "born to run. 3 May 1971",
        "Fiesta nacional: 3/5/1971",
    ],
)
def test_other_dates_are_left(text: str) -> None:
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
    assert spans(personal_data, f"See {text} today") == []


@pytest.mark.parametrize(
    ("text", "category"), [("81.2.69.142", "ip_address"), ("ann@headrace.io", "email"), ("a@notexample.com", "email")]
)
def test_other_addresses_are_personal(personal_data: PersonalDataDetector, text: str, category: str) -> None:
    assert spans(personal_data, f"See {text} today") == [(category, text)]
