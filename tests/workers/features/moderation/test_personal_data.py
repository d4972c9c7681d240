"""What is written like a telephone number, and what only holds the same characters."""

import dataclasses
import re
from unittest.mock import patch

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import phonenumbermatcher

from headrace_workers.features.moderation import personal_words
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_words import QuickPattern
from headrace_workers.features.moderation.telephone_numbers import LENIENCY, REGIONS, _Matcher, _shape


def found(detector: PersonalDataDetector, text: str) -> list[tuple[str, str]]:
    return [(d.category, text[d.start : d.end]) for d in detector.detect([text])[0]]


@pytest.mark.parametrize(
    ("text", "category", "span"),
    [
        ("Write to jane.doe+bills@mail.example.co.uk today.", "email", "jane.doe+bills@mail.example.co.uk"),
        ("The relay is postmaster@mail.internal here.", "email", "postmaster@mail.internal"),
        ("She paid with 4111 1111 1111 1111, valid to 12/27.", "card", "4111 1111 1111 1111"),
        ("Amex 378282246310005 was refused.", "card", "378282246310005"),
        ("Please pay to DE89 3704 0044 0532 0130 00 by Friday.", "iban", "DE89 3704 0044 0532 0130 00"),
        ("The login came from 81.2.69.142 at night.", "ip_address", "81.2.69.142"),
        ("Its address is 2a00:1450:4001:81b::200e.", "ip_address", "2a00:1450:4001:81b::200e"),
        ("Her number is 536-22-1234.", "ssn", "536-22-1234"),
        ("His social security number: 536221234.", "ssn", "536221234"),
        ("Tax id 912-78-1234 is his.", "ssn", "912-78-1234"),
        ("National insurance AB123456C.", "nino", "AB123456C"),
        ("Ring +44 20 7946 0958 before noon.", "phone", "+44 20 7946 0958"),
        ("Ring (415) 555-2671 before noon.", "phone", "(415) 555-2671"),
        ("Our line: 415-555-2671.", "phone", "415-555-2671"),
        ("Please call 4155552671.", "phone", "4155552671"),
        ("PLEASE CALL 4155552671.", "phone", "4155552671"),
        ("Büro: 089/1234567, Herr Maier.", "phone", "089/1234567"),
        ("Portable : 06 12 34 56 78.", "phone", "06 12 34 56 78"),
        ("Llámame al 612 34 56 78.", "phone", "612 34 56 78"),
        ("Mi móvil es 612 345 678.", "phone", "612 345 678"),
        ("Mi teléfono: 612345678.", "phone", "612345678"),
        ("Mój numer telefonu to 601 234 567.", "phone", "601 234 567"),
        ("Komórka: 512-345-678.", "phone", "512-345-678"),
    ],
)
def test_finds_with_exact_span(personal_data: PersonalDataDetector, text: str, category: str, span: str) -> None:
    """Each kind is found where it stands in a sentence, no character more or less."""
    assert (category, span) in found(personal_data, text)


@pytest.mark.parametrize(
    "text",
    [
        "Revenue rose from 1,250,000 in 2021 to 2,500,000 in 2022, a gain of 100.0 %.",
        "Order 4155552671 was shipped on 2024-05-12 at 10:30:15 and arrived on 12/05/2024.",
        "Invoice 20240512-0042 over 1.234.567,89 EUR is due on 31.12.2024.",
        "The population is 67 390 000; of them 3 100 200 live in the capital.",
        "Priset är 3 000-8 000 kronor, eller 300 000 – 800 000 kr, budżet 601 234 567 zł, pedido 612345678.",
        "ISBN 978-3-16-148410-0, DOI 10.1000/182, part no. 7731-2204.",
        "Upgrade from version 81.2.1.2 to version 10.0.1.3; lodash@4.17.21 stays.",
        "Call std::vector<int>::size() at 12:30:45.",
        "Card 4111 1111 1111 1112 fails the checksum, as DE89 3704 0044 0532 0130 01 does.",
        "Ticket JIRA-12345, build 20251124.1, 1700000000000 ms since the epoch.",
        "Ratings: 4 5 3 2 5 1 4 4; sizes 100 200 300 400.",
        "Between 1998-2004 and 2005-2010 it grew 3.5x, from 120 to 420 units.",
        "@app.route and me @ home",
    ],
)
def test_figures_and_dates_are_no_personal_data(personal_data: PersonalDataDetector, text: str) -> None:
    """Amounts, dates, order numbers, versions and failed checksums are left alone."""
    assert found(personal_data, text) == []


def test_answers_belong_to_their_texts(personal_data: PersonalDataDetector) -> None:
    """The i-th list belongs to the i-th text."""
    results = personal_data.detect(["nothing", "a@headrace.io", "", "81.2.69.142"])
    assert [[d.category for d in result] for result in results] == [[], ["email"], [], ["ip_address"]]


def test_finds_in_every_place_of_a_long_text(personal_data: PersonalDataDetector) -> None:
    """What lies across a cut between two windows is found whole."""
    filler = "lorem ipsum dolor "
    for shift in range(0, 400, 7):
        text = (filler * 200)[: 1_750 + shift] + " 4111 1111 1111 1111 or jo@headrace.io " + filler * 100
        assert {("card", "4111 1111 1111 1111"), ("email", "jo@headrace.io")} <= set(found(personal_data, text))


def test_overlong_address_is_not_let_through(personal_data: PersonalDataDetector) -> None:
    """An address longer than a window's overlap is found at least in its last part."""
    text = "x" * 5_000 + "@headrace.io"
    assert any(span.endswith("@headrace.io") for _, span in found(personal_data, text))


TEXT_PIECES = (
    "1 4 9 23 456 1234 4111 536 22 + ( ) - . / : :: @ a b.c example.com DE89 AB 0044 fe80 ffff 12345678 x # call"
)
SPACED = (" ", "\n", "AB123456C", "81.2.69.142", "jo@headrace.io", "\u00a0", "４", "536-22-1234", "912-78-1234", "::1")
NAMED = (
    "12 Elm Street",
    "Rue de la Paix",
    " 12",
    ", 1010 Wien",
    "Dear Ms ",
    "Name: ",
    "Regards,\n",
    "Ann Lee",
    "P.O. Box 7",
    "Lindenstraße 5",
    "Kossuth Lajos utca 12.",
    "7 rue Rabelais",
    "Calle de Alcalá 4",
    "Männi ",
    ", Springfield, IL 62704",
)
PIECES = st.sampled_from([*TEXT_PIECES.split(" "), *SPACED, *NAMED])


@pytest.mark.integration
@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, min_size=4, max_size=24))
def test_gates_never_change_a_verdict(
    personal_data: PersonalDataDetector, ungated: PersonalDataDetector, pieces: list[str]
) -> None:
    """With every gate open the detector finds the same."""
    text = "".join(pieces)
    any_street = QuickPattern(*("" for _ in personal_words.STREET.patterns))
    with (
        patch("headrace_workers.features.moderation.personal_data.ANYTHING", ALWAYS),
        patch.object(personal_words, "STREET", any_street),
    ):
        expected = ungated.detect([text])
    assert personal_data.detect([text]) == expected


ALWAYS = re.compile("")


@pytest.fixture(scope="module")
def ungated() -> PersonalDataDetector:
    detector = PersonalDataDetector()
    detector.__dict__["_rules"] = [dataclasses.replace(rule, gate=ALWAYS) for rule in detector._rules]
    return detector


def test_punctuation_is_that_of_phonenumbers() -> None:
    """The gate for telephone numbers knows the same punctuation as the library that finds them."""
    from phonenumbers import phonenumberutil

    theirs, ours = f"[{phonenumberutil._VALID_PUNCTUATION}]", f"[{personal_words.PUNCTUATION}]"
    characters = [chr(c) for c in range(0x10000)]
    assert [c for c in characters if re.match(theirs, c)] == [c for c in characters if re.match(ours, c)]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("+44 20 7946 0958", 0.6),
        ("Please call 4155552671.", 0.65),  # the word before it counts
        ("CALL: 4155552671", 0.65),
        ("call" + " abc" * 8 + " to 4155552671", 0.65),  # so far away
        ("call" + " abc" * 8 + " too 4155552671", None),
        ("4155552671", None),
        ("recall 4155552671", None),  # another word
    ],
)
def test_how_sure_it_is(personal_data: PersonalDataDetector, text: str, score: float | None) -> None:
    """What is written like a number, or named so, is reported; what might be one is not."""
    assert [d.score for d in personal_data.detect([text])[0]] == ([] if score is None else [pytest.approx(score)])


@pytest.mark.parametrize("word", ["version", "Release", "build", "v.", "V", "firmware"])
def test_what_counts_releases_is_no_host(personal_data: PersonalDataDetector, word: str) -> None:
    """Directly after such a word; elsewhere it is an address."""
    assert found(personal_data, f"Of {word} 81.2.1.2 here") == []
    assert found(personal_data, f"Of {word} and 81.2.1.2 here") == [("ip_address", "81.2.1.2")]


def test_findings_are_in_the_order_of_the_text(personal_data: PersonalDataDetector) -> None:
    """Whatever kind they are of; what is a card is no telephone number too."""
    text = "+44 20 7946 0958, jo@headrace.io, 4111 1111 1111 1111, a@headrace.io"
    assert found(personal_data, text) == [
        ("phone", "+44 20 7946 0958"), ("email", "jo@headrace.io"), ("card", "4111 1111 1111 1111"),
        ("email", "a@headrace.io"),
    ]  # fmt: skip


SHAPED, PLAIN, NONE = 0.6, 0.3, 0.0


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<+49 89 1234567>", SHAPED),
        ("<+498912345678>", SHAPED),
        ("<\uff0b498912345678>", SHAPED),
        ("<(202) 5552671>", SHAPED),
        ("-<+49 89 1234567>%", SHAPED),
        ("<202-555-2671>", SHAPED),
        ("<06 12 34 56 78>", SHAPED),
        ("<1 2 3 4 5 67>", SHAPED),
        ("<1 2 3 4 5 6 7>", PLAIN),  # rather a row of figures
        ("<089/1234567>", SHAPED),
        ("<089/123456>", SHAPED),
        ("<089/12345>", PLAIN),  # too few for two groups
        ("<89/12345678>", PLAIN),  # no area code
        ("<4155552671>", PLAIN),
        ("<3 100 200>", PLAIN),  # an amount
        ("<12.345.678>", PLAIN),
        ("<3 000-8 000>", PLAIN),  # from an amount to another
        ("<( 1 2 3 4 5 6 7 8 9>", PLAIN),
        ("<3 100 200 1>", SHAPED),
        *((f"{sign}<202-555-2671>", PLAIN) for sign in "-/#_$€£"),
        *((f"<202-555-2671>{sign}", PLAIN) for sign in "-/_%"),
        ("(<202-555-2671>)", SHAPED),
        ("<2024-05-12 103015>", NONE),
        ("<12.05.2024 1030>", NONE),
        ("<12/05/24 10301>", NONE),
        ("<12 34 56>", NONE),
    ],
)
def test_how_much_it_is_written_like_a_telephone_number(text: str, score: float) -> None:
    """The span is what stands between the angle brackets, which are not there."""
    before, raw, after = text.replace(">", "<").split("<")
    assert _shape(before + raw + after, len(before), len(before + raw)) == score


@pytest.mark.parametrize(
    "text",
    [
        "(202) 555-01" * 150,
        "(202) 555-0143 or " * 60,
        "x202-555-0143 202-555-0143 202-555-0143x 202-555-0143% " * 20,
        "+49 30 901820/030 901820 " * 40,
        "07700 900123 (07700) 900123 $07700 900123 " * 30,
    ],
)
def test_what_is_written_again_is_read_once_and_found_as_before(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the library finds it, with what stands beside it."""
    read: list[str] = []
    parse = phonenumbermatcher.parse

    def counting(candidate: str, *rest: object, **more: object) -> object:
        read.append(candidate)
        return parse(candidate, *rest, **more)

    monkeypatch.setattr(phonenumbermatcher, "parse", counting)
    for region in REGIONS:
        read.clear()
        found = [(match.start, match.end, match.number) for match in _Matcher(text, region)]
        once = len(read)
        read.clear()
        library = phonenumbers.PhoneNumberMatcher(text, region, leniency=LENIENCY)
        assert found == [(match.start, match.end, match.number) for match in library]
        assert once <= min(60, len(read))
