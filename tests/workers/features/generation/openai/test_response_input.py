import pytest
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered

from headrace_schemas import Message
from headrace_workers.features.generation.openai.response_body import ended_body
from headrace_workers.features.generation.openai.responses import input_messages, messages_of, read
from headrace_workers.http.openai_errors import Refused


def test_a_text_is_a_turn_of_the_user():
    """The instructions and what was said before stand before it."""
    assert input_messages({"input": "a"}) == [{"role": "user", "content": "a"}]
    earlier = [Message(role="user", content="b"), Message(role="assistant", content="c")]
    told = messages_of({"input": "a", "instructions": "i"}, earlier)
    assert [each["content"] for each in told] == ["i", "b", "c", "a"]
    assert told[0]["role"] == "system"


def test_items_are_messages():
    """With or without a type, of text or of parts."""
    items = [
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}], "status": "completed"},
    ]
    assert input_messages({"input": items}) == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "u"},
    ]


def test_the_output_of_a_response_may_be_sent_back():
    """As it is, the search with it."""
    body = {"model": "mill", "input": "a", "tools": [{"type": "file_search", "vector_store_ids": ["mill"]}]}
    (job,) = read(body, ASKER).jobs
    output = ended_body(body, job, JOB_ID, answered("b"))["output"]
    assert [item["type"] for item in output] == ["file_search_call", "message"]
    assert input_messages({"input": output}) == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (None, "input"),
        ([], "input"),
        (1, "input"),
        (["a"], "input[0]"),
        ([{"type": "reasoning"}], "input[0].type"),
        ([{"type": "item_reference", "id": "x"}], "input[0].type"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "tool", "content": "a"}], "input[0].role"),
        ([{"role": "user", "content": "a", "phase": "commentary"}], "input[0].phase"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type"),
    ],
)
def test_what_is_no_message_of_text_is_refused(value, param):
    """By its place."""
    with pytest.raises(Refused) as caught:
        input_messages({} if value is None else {"input": value})
    assert caught.value.param == param
