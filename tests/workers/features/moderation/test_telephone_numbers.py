"""What is written like a telephone number, and what only holds the same characters."""

import phonenumbers
import pytest
from phonenumbers import phonenumbermatcher

from headrace_workers.features.moderation.telephone_numbers import LENIENCY, REGIONS, _Matcher, _shape

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
