import pytest

from headrace_schemas import Rubric
from headrace_workers.features.judging.ask_model import PAIR, SCALES, scale_of
from headrace_workers.models.verifiers.scale import Unanswered, read_words

YES_NO, DIGITS = SCALES["yes_no"], SCALES["1-5"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", 1.0), ("Yes.", 1.0), ("  NO\n", 0.0), ("**No**, it is not.", 0.0), ('"yes"', 1.0), ("no\nBecause", 0.0),
     ("Yes - it is.", 1.0)],
)  # fmt: skip
def test_the_first_word_is_the_answer(text: str, value: float) -> None:
    assert read_words(text, YES_NO) == type(read_words("yes", YES_NO))(value, None)


@pytest.mark.parametrize("text", ["", "no idea", "yesterday", "It is: yes", "yes-ish", "maybe", "y", "not really"])
def test_what_only_begins_like_an_answer_is_none(text: str) -> None:
    with pytest.raises(Unanswered, match="yes"):
        read_words(text, YES_NO)


@pytest.mark.parametrize(("text", "value"), [("1", 0.0), ("5.", 1.0), ("4\n", 0.75), ("3: it is so-so", 0.5)])
def test_a_digit_is_read(text: str, value: float) -> None:
    assert read_words(text, DIGITS).value == value


@pytest.mark.parametrize("text", ["4.5", "10", "4/5", "4 of 5", "0", "6", "-1", "four", "1,5"])
def test_a_number_off_the_scale_is_no_answer(text: str) -> None:
    with pytest.raises(Unanswered):
        read_words(text, DIGITS)


def test_labels_are_told_apart_by_the_longest_and_by_case() -> None:
    scale = scale_of(Rubric(question="?", labels=("partly", "partly true", "no"), passing=("partly true",)))
    assert read_words("Partly true.", scale).value == 1.0
    assert read_words("partly", scale).value == 0.0
    cases = scale_of(Rubric(question="?", labels=("us", "US"), passing=("US",)))
    assert (read_words("US", cases).value, read_words("us", cases).value) == (1.0, 0.0)
    with pytest.raises(Unanswered):
        read_words("Us", cases)


def test_a_pair_is_answered_by_its_letter() -> None:
    assert (read_words("A", PAIR).value, read_words("b.", PAIR).value) == (1.0, 0.0)
    with pytest.raises(Unanswered):
        read_words("Both", PAIR)
