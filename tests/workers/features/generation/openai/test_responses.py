import pytest
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, cancelled, died

from headrace_schemas import GenerationJob, Message
from headrace_workers.features.generation.openai.responses import continued, conversation, read
from headrace_workers.http.openai_errors import Refused

HELLO = {"model": "mill", "input": "Hello?"}
TOOL = {"type": "file_search", "vector_store_ids": ["mill"]}


def job_of(**more):
    (job,) = read({**HELLO, **more}, ASKER).jobs
    return job


def test_a_body_is_a_generation_job():
    """Instructions come first, as the system's turn."""
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
    """It is the same wish as headrace's own."""
    assert job_of(tools=[TOOL]).knowledge == "mill"
    filtered = job_of(tools=[{**TOOL, "filters": {"type": "eq", "key": "a", "value": 1}}])
    assert (filtered.knowledge, filtered.knowledge_filter.key) == ("mill", "a")
    assert job_of(headrace={"knowledge": "mill"}).knowledge == "mill"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": "x" * 200_001}, "input[0].content"),
        ({"instructions": 1}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["No Alias"]}]}, "tools[0].vector_store_ids"),
        ({"headrace": {"knowledge": "No Alias"}}, "headrace.knowledge"),
        ({"tools": [TOOL], "headrace": []}, "headrace"),
        ({"tools": [{**TOOL, "filters": {"type": "eq", "key": "a"}}]}, "tools[0].filters.value"),
        ({"tools": [{**TOOL, "filters": {"type": "like"}}]}, "tools[0].filters.type"),
        ({"headrace": {"knowledge": "mill", "knowledge_filter": {"type": "eq"}}}, "headrace.knowledge_filter.key"),
        ({"previous_response_id": f"resp_{JOB_ID}"}, "previous_response_id"),
        ({"background": 1}, "background"),
        ({"store": "yes"}, "store"),
        ({"background": True, "store": False}, "store"),
        ({"background": True, "stream": True}, "stream"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"seed": 1}, "seed"),
    ],
)
def test_what_is_wrong_is_named(change, param):
    """As the body has it."""
    with pytest.raises(Refused) as caught:
        job_of(**change)
    assert caught.value.param == param


@pytest.mark.parametrize("text", [{"format": {"type": "text"}}, {"format": {"type": "text"}, "verbosity": "medium"}])
def test_text_as_it_is_anyway_is_taken(text):
    """It asks for nothing."""
    assert job_of(text=text) == job_of()


def test_a_request_that_waits_is_answered_or_refused():
    """A job that died is an error, not a response."""
    request = read(HELLO, ASKER)
    assert request.answer([answered()])["status"] == "completed"
    with pytest.raises(Refused, match="it cannot be done"):
        request.answer([died()])


def test_a_conversation_goes_on():
    """The earlier turns stand between the instructions and the input; the next response has all but the former."""
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
    """Withheld, abstained, dead or cancelled."""
    (job,) = read(HELLO, ASKER).jobs
    with pytest.raises(Refused) as caught:
        conversation(HELLO, job, end)
    assert caught.value.param == "previous_response_id"
