""""""

import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, cancelled, died

from headrace_schemas import Category
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.tool import ToolCall
from headrace_workers.features.generation.openai.response_body import (
    ended_body,
    events,
    job_id_of,
    response_id,
    unended_body,
)
from headrace_workers.features.generation.openai.responses import read

BODY = {
    "model": "mill",
    "input": "Hello?",
    "instructions": "Be short.",
    "background": True,
    "max_output_tokens": 9,
    "metadata": {"order": "17"},
    "service_tier": "flex",
    "safety_identifier": "u1",
}
(JOB,) = read(BODY, ASKER).jobs


def test_a_response_is_called_after_its_job():
    assert job_id_of(response_id(JOB_ID)) == JOB_ID
    assert job_id_of(JOB_ID) is None


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_one_that_has_not_ended(status):
    response = Response.model_validate(unended_body(BODY, JOB, JOB_ID, status, 1.5))
    assert (response.id, response.status, response.created_at) == (f"resp_{JOB_ID}", status, 1)
    assert (response.instructions, response.background, response.max_output_tokens) == ("Be short.", True, 9)
    assert (response.metadata, response.service_tier, response.safety_identifier) == ({"order": "17"}, "flex", "u1")
    assert (response.temperature, response.top_p, response.model) == (0.0, 1.0, "mill")
    assert (response.output, response.usage, response.error, response.completed_at) == ([], None, None, None)


def test_one_that_was_answered():
    response = Response.model_validate(ended_body(BODY, JOB, JOB_ID, answered()))
    assert (response.status, response.output_text, response.incomplete_details) == ("completed", "Hello there.", None)
    assert (response.created_at, response.completed_at) == (1769860800, 1769860801)
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 3, 10)
    assert response.model_extra["headrace"]["status"] == "completed"
    body = ended_body(BODY, JOB, JOB_ID, answered(), 1.5)
    assert (body["created_at"], type(body["created_at"]), type(body["completed_at"])) == (1, int, int)


@pytest.mark.parametrize(
    ("end", "reason", "text"),
    [(answered("cut", "length"), "max_output_tokens", "cut"), (answered(None), "content_filter", "")],
)
def test_one_that_is_incomplete(end, reason, text):
    response = Response.model_validate(ended_body(BODY, JOB, JOB_ID, end))
    assert (response.status, response.incomplete_details.reason, response.output_text) == ("incomplete", reason, text)
    assert response.completed_at is None
    assert [item.status for item in response.output] == (["incomplete"] if text else [])


def test_one_that_abstained_is_a_refusal():
    end = answered("", "abstained", grounding=Grounding(knowledge="mill", floor=0.3, reason="nothing is near"))
    response = Response.model_validate(ended_body(BODY, JOB, JOB_ID, end))
    (message,) = response.output
    (part,) = message.content
    assert (response.status, part.type, part.refusal) == ("completed", "refusal", "nothing is near")


@pytest.mark.parametrize(
    ("category", "code"),
    [(Category.INVALID, "invalid_prompt"), (Category.PERMANENT, "server_error"), (Category.EXPIRED, "server_error")],
)
def test_one_that_died(category, code):
    response = Response.model_validate(ended_body(BODY, JOB, JOB_ID, died(category, "so it is"), 1.5))
    assert (response.id, response.status, response.created_at) == (f"resp_{JOB_ID}", "failed", 1)
    assert (response.error.code, response.error.message) == (code, "so it is")


def test_one_that_was_cancelled():
    response = Response.model_validate(ended_body(BODY, JOB, JOB_ID, cancelled("no need"), 1.5))
    assert (response.status, response.error, response.output) == ("cancelled", None, [])


def test_the_search_stands_before_the_message():
    body = {"model": "mill", "input": "Why?", "tools": [{"type": "file_search", "vector_store_ids": ["mill"]}]}
    (job,) = read(body, ASKER).jobs
    response = Response.model_validate(ended_body(body, job, JOB_ID, answered()))
    assert [item.type for item in response.output] == ["file_search_call", "message"]
    assert response.output[0].queries == ["Why?"]
    assert response.tools[0].vector_store_ids == ["mill"]


EVENT = TypeAdapter(ResponseStreamEvent)
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Bern"}' + " " * 200)
CITED = Grounding(
    knowledge="mill",
    floor=0.3,
    citations=(Citation(number=1, document="a.md", start=0, stop=9, chunk="c", relevance=0.5, cited=True),),
)


def body_of(end, **more):
    return read({"model": "mill", "input": "Why?", **more}, ASKER).answer([end])


@pytest.mark.parametrize(
    "end",
    [
        answered("Once upon a time. " * 20),
        answered("cut", "length"),
        answered(None),
        answered("", "abstained"),
        answered("So it is [1].", grounding=CITED),
        answered("I look it up.", "tool_calls", tool_calls=(CALL, CALL.model_copy(update={"id": "call_2"}))),
        answered(None, "tool_calls", tool_calls=(CALL,)),
    ],
)
def test_events_come_to_the_same_response(end):
    body = body_of(end, tools=[{"type": "file_search", "vector_store_ids": ["mill"]}])
    told = list(events(body))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    texts = []
    for event in told:
        for seen in state.handle_event(EVENT.validate_python(event)):
            if seen.type == "response.output_text.delta":
                texts.append(seen.delta)
    assert told[-1]["type"] == f"response.{body['status']}"
    assert told[-1]["response"] == body
    said = [part["text"] for item in body["output"] for part in item.get("content", ()) if "text" in part]
    assert "".join(texts) == "".join(said)


def test_nothing_is_told_at_the_beginning():
    first = next(events(body_of(answered())))
    assert (first["type"], first["response"]["status"], first["response"]["output"]) == (
        "response.created",
        "in_progress",
        [],
    )
