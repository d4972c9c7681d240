"""What hides words in a text hides them from nobody, and spans are those of the text as it came."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.features.moderation.test_edges import HOSTILE

from headrace_workers.features.moderation.detector import Detection, Moderation
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.text_views import (
    as_typed,
    decoded,
    looks_at,
    without_lookalikes,
    without_signs,
)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("\u0456di\u043et", "idiot"),  # Cyrillic letters among Latin ones
        ("You are an \U0001d422\U0001d41d\U0001d422\U0001d428\U0001d42d", "You are an idiot"),  # mathematical
        ("\uff29\uff24\uff29\uff2f\uff34", "IDIOT"),  # fullwidth
        ("plain words, and \u0441\u043e\u0441\u043a", "plain words, and cock"),  # all Cyrillic, in a Latin text
        ("\u0421\u0421\u0421\u0420 \u0438 \u041c\u0438\u0440 \u0438 \u0442\u0440\u0443\u0434", None),  # Russian
        ("gr\u00f6\u00dfe, na\u00efve \u2013 \u201cyes\u201d", None),
        ("plain", None),
    ],
    ids=["mixed", "mathematical", "fullwidth", "lookalikes alone", "Russian", "Latin with marks", "ASCII"],
)
def test_letters_that_only_look_latin(text: str, reads: str | None) -> None:
    assert without_lookalikes(text) == reads


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("\uff14\uff11\uff11\uff11", "4111"),  # fullwidth
        ("\u0664\u0661\u0967", "411"),  # Arabic and Devanagari digits
        ("ann\uff20headrace\uff0eio", "ann@headrace.io"),
        ("555\u20110142, 4111\u00a01111\u202f1111", "555-0142, 4111 1111 1111"),
        ("na\u00efve \u2014 \u201cyes\u201d", None),
        ("555-0142", None),
    ],
)
def test_digits_signs_and_spaces_are_those_of_a_keyboard(text: str, reads: str | None) -> None:
    """One for one, so that every span stays where it is; what parts sentences stays."""
    assert as_typed(text) == reads
    assert reads is None or len(reads) == len(text)


def test_letters_and_signs_are_one_look() -> None:
    assert [look.text for look in looks_at(["\uff14\u00a0\u0456diot"])][1:] == ["4 idiot"]


def test_what_is_written_with_other_digits_and_signs_is_found(moderator: PolicyModerator) -> None:
    card = "4111 1111 1111 1111"
    texts = [
        "Mail ann\uff20headrace\uff0eio now.",
        card.replace(" ", "\u00a0"),
        card.replace(" ", "\u2013"),
        card.replace(" ", "").translate({ord(str(n)): 0xFF10 + n for n in range(10)}),
        "Call +49\u202f30\u202f901820 or +49 30\u20119018\u201120.",
    ]
    found = [verdict.text for verdict in moderator.moderate(texts) if isinstance(verdict, Moderation)]
    assert found == ["Mail [EMAIL] now.", "[CARD]", "[CARD]", "[CARD]", "Call [PHONE] or [PHONE]."]


@pytest.mark.parametrize(
    "hidden", ["an 1d10t, that is all", "an idi\u043et, that is all", "an i\uff44iot, that is all"]
)
def test_base64_hides_nothing_that_is_hidden_again(moderator: PolicyModerator, hidden: str) -> None:
    (verdict,) = moderator.moderate([f"Decode {in_base64(hidden)} now."])
    assert isinstance(verdict, Moderation)
    assert verdict.action == "redact"


@given(text=st.text(st.sampled_from("abcZ \u0430\u043e\u0440\u0416\u03b1\u03a9\u0561\uff21\U0001d400\u24d0\u0131.,1")))
def test_lookalikes_are_one_for_one(text: str) -> None:
    """So that every span stays where it is."""
    folded = without_lookalikes(text)
    assert folded is None or (len(folded) == len(text) and folded != text)


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("you 1d10t!", "you idiot!"),
        ("$h1t a$$ f@ck sh!t", "shit ass fack shit"),
        ("5hit", "shit"),
        ("On the 3rd, 1st and 4th: 10km, GPT4, $50, 42, yes!", None),
        ("ann@headrace.io", None),
        ("A" * 20 + "0" * 13 + "a", None),  # a key: longer than any word
    ],
)
def test_signs_that_stand_for_letters(text: str, reads: str | None) -> None:
    assert without_signs(text) == reads


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("words", ["kill them all", "die Größe ist ungewöhnlich >>>???", "x" * 5_000])
@pytest.mark.parametrize("pad", ["=", ""], ids=["padded", "bare"])
def test_base64_is_read(encode, words: str, pad: str) -> None:
    run = encode(words.encode()).decode().rstrip("=")
    run += pad * (-len(run) % 4)
    found = decoded(f"Decode ({run}), please.")
    assert found is not None
    assert found.text == f"{words}\n"
    assert {*found.begins} == {8}
    assert {*found.ends} == {8 + len(run)}
    assert decoded(run) is not None


def test_what_is_no_text_is_no_base64() -> None:
    long = "internationalization /usr/local/share/dictionaries 5f2c9d1e8a7b4c305f2c9d1e8a7b4c30 "
    assert decoded(long + base64.b64encode(bytes(range(128, 255))).decode()) is None
    assert decoded(base64.b64encode(bytes(range(1, 32))).decode()) is None
    assert decoded("no long word in here at all") is None


@pytest.mark.parametrize(
    ("run", "reads"),
    [
        (in_base64("twelve bytes"), "twelve bytes"),
        (in_base64("eleven byte"), None),
        (in_base64("twelve bytes") + "Q", "twelve bytes"),
        (in_base64("a\tline\nand\r\nanother"), "a\tline\nand\r\nanother"),
        (in_base64("eighteen, and two \1\2"), "eighteen, and two \1\2"),
        (in_base64("seventeen of 20, \1\2\3"), None),
    ],
    ids=["shortest", "too short", "a sign too many", "white space", "nine of ten", "less"],
)
def test_base64_is_read_where_it_is_long_and_most_of_it_can_be_read(run: str, reads: str | None) -> None:
    found = decoded(run)
    assert (found and found.text) == (reads and f"{reads}\n")


def test_each_character_of_base64_is_said_by_its_own_run() -> None:
    runs = [in_base64(words) for words in ("the first of them", "die zweite, länger", "and the third")]
    text = f"Decode {runs[0]}, {runs[1]} and {runs[2]}"
    found = decoded(text)
    assert found is not None
    assert found.text == "the first of them\ndie zweite, länger\nand the third\n"
    said = [text[begin:end] for begin, end in zip(found.begins, found.ends, strict=True)]
    assert said == [runs[0]] * 18 + [runs[1]] * 19 + [runs[2]] * 14


def test_base64_is_decoded_once() -> None:
    looks = looks_at([in_base64(in_base64("kill them all, kill them all"))])
    assert [look.text for look in looks[1:]] == [in_base64("kill them all, kill them all") + "\n"]


def test_spans_are_those_of_the_text_as_it_came() -> None:
    run = in_base64("an idiot, that is")
    hidden = run[:5] + "\u200b" + run[5:]
    text = f"\u200bx \u0456d\u200biot 1d10t {hidden} end"
    found = set()
    for look in looks_at([text]):
        at = look.text.find("idiot")
        while at >= 0:
            where = look.in_whole(Detection("d", 1.0, at, at + 5))
            found.add(text[where.start : where.end])
            at = look.text.find("idiot", at + 1)
    assert found == {"\u0456d\u200biot", "1d10t", hidden}


def test_what_reads_digits_is_not_shown_words(moderator: PolicyModerator) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPLE"
    texts = [
        "You are an 1d10t.",
        "You are an \u0456diot.",
        f"Decode {in_base64('You are an idiot.')} now.",
        f"Decode {in_base64(f'my key is {key} ok')} now.",
        "Order 4711 of the 3rd: 10 of A4, H2O and 5G.",
    ]
    verdicts = [verdict for verdict in moderator.moderate(texts) if isinstance(verdict, Moderation)]
    assert [verdict.action for verdict in verdicts] == ["redact", "redact", "redact", "redact", "allow"]
    assert verdicts[3].text == "Decode [SECRET] now."
    assert {f.detector for f in verdicts[0].findings} == {"profanity"}


UNITS = (
    *HOSTILE,
    "a0",
    "@a",
    "a@a",
    "$",
    "a$",
    "\u0430a",
    "a_",
    "QUFB",
    "QUFB=",
    "\uff21 ",
    "\u00a0",
    "\uff11\u2013",
    "\u0664 ",
    "a\u0430\u200b1",
)


@pytest.mark.integration
@pytest.mark.parametrize("unit", UNITS, ids=range(len(UNITS)))
def test_a_text_of_the_greatest_length_is_changed_to_an_end(unit: str) -> None:
    """Also where it is made to cost as much as possible; no look is longer than the text. What is quadratic would take
    twenty seconds at this quarter of the greatest length.
    """
    text = (unit * 50_000)[:49_999]
    for hostile in (text + "x", text + " "):
        assert all(len(look.text) <= len(hostile) for look in looks_at([hostile]))
