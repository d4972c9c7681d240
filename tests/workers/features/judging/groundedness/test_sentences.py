import pytest
from hypothesis import given
from tests.schemas.documents import texts

from headrace_workers.features.judging.groundedness.sentences import clauses, sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("One thing. Another one!", ["One thing.", "Another one!"]),
        ("It costs 3.5 euros, e.g. at noon.", ["It costs 3.5 euros, e.g. at noon."]),
        ("It opens at 9 [1]. It closes at 5 [2, 3].", ["It opens at 9.", "It closes at 5."]),
        ("- First point\n- Second point\n3. Third", ["First point", "Second point", "Third"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
    ],
)
def test_a_text_in_sentences(text: str, found: list[str]) -> None:
    assert [sentence.text for sentence in sentences(text)] == found


@given(texts)
def test_sentences_stand_where_they_say(text: str) -> None:
    at = 0
    for sentence in sentences(text):
        assert at <= sentence.start < sentence.stop <= len(text)
        assert sentence.text[0] == text[sentence.start : sentence.stop][0] or "[" in text or "【" in text
        at = sentence.stop


def test_a_sentence_in_its_parts() -> None:
    assert clauses("Voss received fees from the maker, while Obi did not take any.") == [
        "Voss received fees from the maker",
        "Obi did not take any.",
    ]
    assert clauses("The tower is 34 metres tall.") == []
