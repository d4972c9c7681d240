import pytest

from headrace_workers.features.generation.openai.request import CHAT_PARTS, RESPONSE_PARTS, role_of, text_of
from headrace_workers.http.openai_errors import Refused


@pytest.mark.parametrize(
    ("role", "ours"), [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")]
)
def test_roles(role, ours):
    """A developer's instructions are the system's."""
    assert role_of(role, "r") == ours


@pytest.mark.parametrize("role", ["tool", "function", None, ["user"]])
def test_other_roles_are_refused(role):
    """By their place."""
    with pytest.raises(Refused) as caught:
        role_of(role, "messages[0].role")
    assert caught.value.param == "messages[0].role"


def test_parts_of_text_are_joined_a_line_each():
    """A text is taken as it is."""
    assert text_of("a", CHAT_PARTS, "c") == "a"
    assert text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], CHAT_PARTS, "c") == "a\nb"
    assert text_of([{"type": "refusal", "refusal": "no"}], CHAT_PARTS, "c") == "no"
    assert text_of([], CHAT_PARTS, "c") == ""


def test_an_output_of_ours_may_be_sent_back():
    """With its annotations, which a model does not read."""
    part = {"type": "output_text", "text": "a", "annotations": [{"type": "file_citation"}], "logprobs": []}
    assert text_of([part, {"type": "input_text", "text": "b"}], RESPONSE_PARTS, "c") == "a\nb"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (None, "c"),
        (1, "c"),
        ({}, "c"),
        (["a"], "c[0].type"),
        ([{"text": "a"}], "c[0].type"),
        ([{"type": "image_url", "image_url": {}}], "c[0].type"),
        ([{"type": ["text"], "text": "a"}], "c[0].type"),
        ([{"type": "text"}], "c[0].text"),
        ([{"type": "text", "text": 1}], "c[0].text"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "x": 1}], "c[1].x"),
        ([{"type": "text", "text": "a", "prompt_cache_breakpoint": {}}], "c[0].prompt_cache_breakpoint"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(content, param):
    """Images, sounds and files are not read."""
    with pytest.raises(Refused) as caught:
        text_of(content, CHAT_PARTS, "c")
    assert caught.value.param == param
