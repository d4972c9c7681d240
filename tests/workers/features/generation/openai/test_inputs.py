import pytest

from headrace_workers.features.generation.openai.request import texts_of
from headrace_workers.http.openai_errors import Refused


def test_one_text_or_many():
    """Each with its place."""
    assert texts_of({"input": "a"}, "input", 2) == [("input", "a")]
    assert texts_of({"input": ["a", "b"]}, "input", 2) == [("input[0]", "a"), ("input[1]", "b")]


@pytest.mark.parametrize(
    ("value", "param", "words"),
    [
        (None, "input", "is missing"),
        ([], "input", "at least one"),
        ({}, "input", "must be text"),
        (["a", "b", "c"], "input", "at most 2 texts, not 3"),
        ([1, 2], "input[0]", "tokens are not taken"),
        ([[1], [2]], "input[0]", "tokens are not taken"),
        (["a", None], "input[1]", "must be text"),
    ],
)
def test_what_is_none_is_refused(value, param, words):
    """Tokens are of another model's tokenizer."""
    asked = {} if value is None else {"input": value}
    with pytest.raises(Refused, match=words) as caught:
        texts_of(asked, "input", 2)
    assert caught.value.param == param
