import pytest
from openai.types.responses import Response
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, cancelled, died

from headrace_schemas import Category
from headrace_schemas.grounding import Grounding
from headrace_workers.features.generation.openai.response_body import ended_body, job_id_of, response_id, unended_body
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
    """And leads back to it; another id does not."""
    assert job_id_of(response_id(JOB_ID)) == JOB_ID
    assert job_id_of(JOB_ID) is None


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_one_that_has_not_ended(status):
    """The client's own class takes it, and finds what it asked for."""
    found = Response.model_validate(unended_body(BODY, JOB, JOB_ID, status, 1.5))
    assert (found.id, found.status, found.created_at) == (f"resp_{JOB_ID}", status, 1.5)
    assert (found.instructions, found.background, found.max_output_tokens) == ("Be short.", True, 9)
    assert (found.metadata, found.service_tier, found.safety_identifier) == ({"order": "17"}, "flex", "u1")
    assert (found.temperature, found.top_p, found.model) == (0.0, 1.0, "mill")
    assert (found.output, found.usage, found.error, found.completed_at) == ([], None, None, None)


def test_one_that_was_answered():
    """With the text, the tokens, and the receipt."""
    found = Response.model_validate(ended_body(BODY, JOB, JOB_ID, answered()))
    assert (found.status, found.output_text, found.incomplete_details) == ("completed", "Hello there.", None)
    assert (found.created_at, found.completed_at) == (1769860800.0, 1769860801.5)
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (7, 3, 10)
    assert found.model_extra["headrace"]["status"] == "completed"
    assert ended_body(BODY, JOB, JOB_ID, answered(), 1.5)["created_at"] == 1.5


@pytest.mark.parametrize(
    ("end", "reason", "text"),
    [(answered("cut", "length"), "max_output_tokens", "cut"), (answered(None), "content_filter", "")],
)
def test_one_that_is_incomplete(end, reason, text):
    """Cut, or withheld: then there is no message at all."""
    found = Response.model_validate(ended_body(BODY, JOB, JOB_ID, end))
    assert (found.status, found.incomplete_details.reason, found.output_text) == ("incomplete", reason, text)
    assert found.completed_at is None
    assert [item.status for item in found.output] == (["incomplete"] if text else [])


def test_one_that_abstained_is_a_refusal():
    """It says what was missing."""
    end = answered("", "abstained", grounding=Grounding(knowledge="mill", floor=0.3, reason="nothing is near"))
    found = Response.model_validate(ended_body(BODY, JOB, JOB_ID, end))
    (message,) = found.output
    (part,) = message.content
    assert (found.status, part.type, part.refusal) == ("completed", "refusal", "nothing is near")


@pytest.mark.parametrize(
    ("category", "code"),
    [(Category.INVALID, "invalid_prompt"), (Category.PERMANENT, "server_error"), (Category.EXPIRED, "server_error")],
)
def test_one_that_died(category, code):
    """Failed, with the dead letter's reason."""
    found = Response.model_validate(ended_body(BODY, JOB, JOB_ID, died(category, "so it is"), 1.5))
    assert (found.id, found.status, found.created_at) == (f"resp_{JOB_ID}", "failed", 1.5)
    assert (found.error.code, found.error.message) == (code, "so it is")


def test_one_that_was_cancelled():
    """It is no error."""
    found = Response.model_validate(ended_body(BODY, JOB, JOB_ID, cancelled("no need"), 1.5))
    assert (found.status, found.error, found.output) == ("cancelled", None, [])


def test_the_search_stands_before_the_message():
    """Where a vector store was named."""
    body = {"model": "mill", "input": "Why?", "tools": [{"type": "file_search", "vector_store_ids": ["mill"]}]}
    (job,) = read(body, ASKER).jobs
    found = Response.model_validate(ended_body(body, job, JOB_ID, answered()))
    assert [item.type for item in found.output] == ["file_search_call", "message"]
    assert found.output[0].queries == ["Why?"]
    assert found.tools[0].vector_store_ids == ["mill"]
