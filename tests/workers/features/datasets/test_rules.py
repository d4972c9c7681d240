import json

import pytest

from headrace_workers.features.datasets.clean import Unreadable, other_language, poor, text_of
from headrace_workers.features.datasets.duplicates import Near, Same, evaluation_sets

PROSE = "The mill was built beside the river, and its wheel has turned there for more than two hundred years."


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": "a"}, "a"),
        ({"prompt": "a", "completion": "b", "id": 3}, "a\nb"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a\nb"),
    ],
)
def test_the_text_of_a_record(record: object, text: str) -> None:
    assert text_of(json.dumps(record).encode()) == text


def test_a_field_may_be_named() -> None:
    assert text_of(b'{"body": "x", "text": "y"}', "body") == "x"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON"),
        (b"[1]", "it is no JSON object"),
        (b'{"id": 1}', "it has no text"),
        (b'{"messages": []}', "its messages are no list"),
        (b'{"messages": [{"content": [1]}]}', "no content that is a text"),
    ],
)
def test_a_line_that_is_no_record_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        text_of(line)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("水車は川のそばに建てられた。 二百年以上も そこで回っている。", None),
        ("ok", "fewer than 3 words"),
        ("", "fewer than 3 words"),
        ("12 + 34 = 46; 7 * 8 = 56; {}[]", "are letters"),
        ("aHR0cHM6Ly9leGFtcGxlLmNvbS9h " * 4, "characters on average"),
        ("click here\n" * 10, "of its lines stand in it already"),
        ("buy " * 40, "of its words are 'buy'"),
    ],
)
def test_what_is_hardly_a_text(text: str, reason: str | None) -> None:
    found = poor(text)
    assert found is None if reason is None else reason in str(found)


def test_another_language() -> None:
    """Told by small words; of a few words nothing is said."""
    german = "Die Mühle wurde neben dem Fluss gebaut, und das Rad dreht sich dort seit mehr als zwei Jahrhunderten."
    assert other_language(PROSE, "en") is None
    assert "looks like de" in str(other_language(german, "en"))
    assert other_language(german, "de") is None
    assert "hardly any of another" in str(other_language("zq vx wk jq zz qx vk wj xz qv", "en"))
    assert other_language("Guten Morgen, alle zusammen!", "en") is None


def test_the_same_words_are_the_same_text() -> None:
    same = Same()
    same.keep(4, "The mill: open, today!")
    assert same.line("the MILL  open today") == 4
    assert same.line("open the mill today") is None


@pytest.mark.parametrize("threshold", [0.0001, 0.8, 0.95, 1.0])
def test_any_share_may_be_near_enough(threshold: float) -> None:
    """Also all of it, at which the index alone would find nothing."""
    text = "The one that all people of the town want to see and to have."
    near = Near(threshold)
    assert near.line(1, text) is None
    assert near.line(2, text.upper()) == (1, 1.0)
    assert (near.line(3, f"{text} Again and again.") is None) == (threshold > 0.7734375)


def test_what_is_nearly_the_same() -> None:
    near = Near(0.3)
    for number in range(50):
        near.line(number, f"Text {number} of the shelf says that {number * 7} wheels turn in house {number * 3}.")
    near.line(99, PROSE)
    line = near.line(100, PROSE.replace("wheel", "stone"))
    assert line is not None
    assert line[0] == 99
    assert (
        near.line(101, "Something else is written here, which has no run of words in common with any of these.") is None
    )


@pytest.mark.integration
def test_what_is_less_alike_than_the_threshold_is_kept() -> None:
    """Though an index of sketches proposes it."""
    words, found = [f"word{number}" for number in range(100)], []
    for cut in range(5, 90):
        near = Near(0.8)
        near.line(1, " ".join(words))
        found.append(near.line(2, " ".join([*words[:cut], *["other"] * 3, *words[cut + 3 :]])))
    assert {None} < {row and row[0] for row in found}
    assert all(row is None or row[1] >= 0.8 for row in found)


def test_a_test_that_has_leaked() -> None:
    item = "How many wheels turn in the third house of the town by the river when the mill is open?"
    tests = evaluation_sets(
        [(item, "eval.jsonl"), ("What is the capital of Austria?", "short.jsonl"), ("Yes.", "tiny.jsonl")]
    )
    assert tests.leaked(f"Question: {item.upper()} Answer: 7") == "eval.jsonl"
    assert tests.leaked("how many wheels turn in the third house of the") is None
    assert tests.leaked("Tell me: what is the capital of Austria") == "short.jsonl"
    assert tests.leaked("Yes. No.") is None
