import pytest
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, cancelled, died

from headrace_schemas import GenerationJob, Message
from headrace_workers.features.generation.openai.response_body import ended_body
from headrace_workers.features.generation.openai.responses import (
    continued,
    conversation,
    input_messages,
    messages_of,
    read,
    references,
    with_items,
)
from headrace_workers.http.openai import Refused


def of(*ids: object) -> list[dict[str, object]]:
    return [{"type": "item_reference", "id": id} for id in ids]


def test_references_are_found_by_their_place():
    assert references({"input": [{"role": "user", "content": "a"}, *of("msg_1")]}) == {1: "msg_1"}
    assert references({"input": "a"}) == references({}) == references({"input": ["a"]}) == {}


def test_the_items_stand_in_their_places():
    """All else stays as it was."""
    body = {"model": "mill", "input": [*of("msg_1"), {"role": "user", "content": "a"}]}
    item = {"type": "message", "role": "assistant", "content": "b"}
    assert with_items(body, {0: item}) == {"model": "mill", "input": [item, {"role": "user", "content": "a"}]}
    assert with_items(body, {}) is body


@pytest.mark.parametrize(
    ("items", "param"),
    [
        (of(None), "input[0].id"),
        (of(1), "input[0].id"),
        ([{"type": "item_reference", "id": "msg_1", "role": "user"}], "input[0].role"),
        (of(*map(str, range(257))), "input"),
    ],
)
def test_what_is_no_reference_is_refused(items, param):
    """By its place. Each is looked up, so there are not too many."""
    with pytest.raises(Refused) as caught:
        references({"input": items})
    assert caught.value.param == param


def test_a_text_is_a_turn_of_the_user():
    assert input_messages({"input": "a"}) == [{"role": "user", "content": "a"}]
    earlier = [Message(role="user", content="b"), Message(role="assistant", content="c")]
    told = messages_of({"input": "a", "instructions": "i"}, earlier)
    assert [entry["content"] for entry in told] == ["i", "b", "c", "a"]
    assert told[0]["role"] == "system"


def test_items_are_messages():
    items = [
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}], "status": "completed"},
    ]
    assert input_messages({"input": items}) == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "u"},
    ]


def test_the_output_of_a_response_may_be_sent_back():
    body = {"model": "mill", "input": "a", "tools": [{"type": "file_search", "vector_store_ids": ["mill"]}]}
    (job,) = read(body, ASKER).jobs
    output = ended_body(body, job, JOB_ID, answered("b"))["output"]
    assert [item["type"] for item in output] == ["file_search_call", "message"]
    assert input_messages({"input": output}) == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (None, "input"),
        (["a"], "input[0]"),
        ([{"type": "reasoning"}], "input[0].type"),
        ([{"type": "item_reference", "id": "x"}], "input[0].type"),
        ([{"role": "tool", "content": "a"}], "input[0].role"),
        ([{"role": "user", "content": "a", "phase": "commentary"}], "input[0].phase"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type"),
    ],
)
def test_what_is_no_message_of_text_is_refused(value, param):
    with pytest.raises(Refused) as caught:
        input_messages({} if value is None else {"input": value})
    assert caught.value.param == param


HELLO = {"model": "mill", "input": "Hello?"}
TOOL = {"type": "file_search", "vector_store_ids": ["mill"]}


def job_of(**more):
    (job,) = read({**HELLO, **more}, ASKER).jobs
    return job


def test_a_body_is_a_generation_job():
    job = job_of(
        instructions="Be short.",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=20,
        service_tier="priority",
        metadata={"order": "17"},
        safety_identifier="u1",
        headrace={"cache": "exact"},
    )
    assert job == GenerationJob(
        tenant="shop",
        model="mill",
        messages=(Message(role="system", content="Be short."), Message(role="user", content="Hello?")),
        sampling={"temperature": 0.5, "top_p": 0.9, "max_tokens": 20},
        priority=9,
        metadata={"order": "17", "safety_identifier": "u1"},
        cache="exact",
    )


def test_file_search_names_the_knowledge_base():
    assert job_of(tools=[TOOL]).knowledge == "mill"
    filtered = job_of(tools=[{**TOOL, "filters": {"type": "eq", "key": "a", "value": 1}}])
    assert (filtered.knowledge, filtered.knowledge_filter.key) == ("mill", "a")
    assert job_of(headrace={"knowledge": "mill"}).knowledge == "mill"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": "x" * 200_001}, "input[0].content"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["No Alias"]}]}, "tools[0].vector_store_ids"),
        ({"headrace": {"knowledge": "No Alias"}}, "headrace.knowledge"),
        ({"tools": [TOOL], "headrace": []}, "headrace"),
        ({"tools": [{**TOOL, "filters": {"type": "eq", "key": "a"}}]}, "tools[0].filters.value"),
        ({"tools": [{**TOOL, "filters": {"type": "like"}}]}, "tools[0].filters.type"),
        ({"headrace": {"knowledge": "mill", "knowledge_filter": {"type": "eq"}}}, "headrace.knowledge_filter.key"),
        ({"previous_response_id": f"resp_{JOB_ID}"}, "previous_response_id"),
        ({"store": "yes"}, "store"),
        ({"background": True, "store": False}, "store"),
        ({"background": True, "stream": True}, "stream"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"seed": 1}, "seed"),
    ],
)
def test_what_is_wrong_is_named(change, param):
    with pytest.raises(Refused) as caught:
        job_of(**change)
    assert caught.value.param == param


@pytest.mark.parametrize("text", [{"format": {"type": "text"}}, {"format": {"type": "text"}, "verbosity": "medium"}])
def test_text_as_it_is_anyway_is_taken(text):
    assert job_of(text=text) == job_of()


def test_a_request_that_waits_is_answered_or_refused():
    request = read(HELLO, ASKER)
    assert request.answer([answered()])["status"] == "completed"
    with pytest.raises(Refused, match="it cannot be done"):
        request.answer([died()])


def test_a_conversation_goes_on():
    first_body = {**HELLO, "instructions": "Be short."}
    (first,) = read(first_body, ASKER).jobs
    earlier = conversation(first_body, first, answered("Hello."))
    assert [(m.role, m.content) for m in earlier] == [("user", "Hello?"), ("assistant", "Hello.")]
    second_body = {
        "model": "mill",
        "input": "And now?",
        "instructions": "Be long.",
        "previous_response_id": f"resp_{JOB_ID}",
    }
    (second,) = continued(second_body, ASKER, earlier).jobs
    assert [m.content for m in second.messages] == ["Be long.", "Hello?", "Hello.", "And now?"]
    third = conversation(second_body, second, answered("Now."))
    assert [m.content for m in third] == ["Hello?", "Hello.", "And now?", "Now."]
    (plain,) = read(HELLO, ASKER).jobs
    assert [m.content for m in conversation(HELLO, plain, answered("Hello."))] == ["Hello?", "Hello."]


@pytest.mark.parametrize("end", [answered(None), answered("", "abstained"), died(), cancelled()])
def test_nothing_goes_on_from_what_has_no_text(end):
    (job,) = read(HELLO, ASKER).jobs
    with pytest.raises(Refused) as caught:
        conversation(HELLO, job, end)
    assert caught.value.param == "previous_response_id"
