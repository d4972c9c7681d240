"""The words of a webhook."""

import json
from datetime import UTC, datetime

import pytest

from headrace_schemas import Answer, Category, DeadLetter, JobCancelled, JobHeld, ModerationVerdict, Result, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.tool import ToolCall
from headrace_workers.features.webhooks.telling import Wording, name_of, of_job, of_response, response_name_of

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def result(finish_reason="stop", status="completed", **fields):
    """A receipt with a text."""
    answer = Answer(
        text=None if status == "blocked" else "the answer", finish_reason=finish_reason, model="m",
        quantization="int8", usage=Usage(prompt_tokens=3, completion_tokens=4),
    )  # fmt: skip
    action = "block" if status == "blocked" else "allow"
    known = {"job_id": JOB, "tenant": "t", "status": status, "kind": "generation", "answer": answer,
             "moderation": ModerationVerdict(action=action), "accepted_at": datetime.now(UTC)}  # fmt: skip
    return Result(**(known | fields))


CANCELLED = JobCancelled(job_id=JOB, tenant="t", reason="enough")
HELD = JobHeld(job_id=JOB, tenant="t", stage="moderate", reason="hate (1 x)", needs_person=True)
DEAD = DeadLetter(job_id=JOB, tenant="t", category=Category.PERMANENT, reason="no " * 600, stage="generate", topic="x",
                  size=1, original="a", encoding="utf-8", attempts=3)  # fmt: skip


def said(end, whole=False, wording=None):
    """The body as it is read."""
    content = of_job(end, JOB, encode_value(end), "a-b-c", 1_700_000_000_500, whole, wording or Wording())
    return json.loads(content), len(content)


@pytest.mark.parametrize(
    ("end", "name", "response"),
    [
        (result(), "job.completed", "response.completed"),
        (result("length"), "job.completed", "response.incomplete"),
        (result(status="blocked"), "job.completed", "response.incomplete"),
        (DEAD.model_copy(update={"failure": "truncated"}), "job.failed", "response.incomplete"),
        (DEAD.model_copy(update={"failure": "unparsable"}), "job.failed", "response.failed"),
        (CANCELLED, "job.cancelled", "response.cancelled"),
        (DEAD, "job.failed", "response.failed"),
        (HELD, "job.held", None),
    ],
)
def test_ends_have_names(end, name, response):
    """Ours, and OpenAI's."""
    assert (name_of(end), response_name_of(end)) == (name, response)


def test_that_a_job_is_held_is_told_with_the_reason():
    """And for whom it waits."""
    body, _ = said(HELD)
    assert body["data"] == {"id": JOB, "tenant": "t", "status": "held", "stage": "moderate", "reason": "hate (1 x)",
                            "needs_person": True, "link": f"/v1/jobs/{JOB}"}  # fmt: skip


def test_a_result_is_told_without_its_text():
    """The head of its receipt."""
    body, _ = said(result(metadata={"order": "17"}))
    assert (body["id"], body["created_at"], body["timestamp"]) == ("evt_abc", 1_700_000_000, "2023-11-14T22:13:20.500Z")
    data = body["data"]
    assert (data["model"], data["finish_reason"], data["moderation"]) == ("m", "stop", "allow")
    assert (data["usage"], data["metadata"]) == ({"prompt_tokens": 3, "completion_tokens": 4}, {"order": "17"})
    assert data["link"] == f"/v1/jobs/{JOB}"
    assert "the answer" not in json.dumps(body)


def test_other_ends_are_told_with_their_reasons():
    """Who cancelled why, and what failed where."""
    assert said(CANCELLED)[0]["data"] == {
        "id": JOB, "tenant": "t", "status": "cancelled", "reason": "enough", "link": f"/v1/jobs/{JOB}",
    }  # fmt: skip
    data = said(DEAD)[0]["data"]
    assert (data["status"], data["category"], data["stage"], data["attempts"]) == ("failed", "permanent", "generate", 3)


def test_the_whole_is_told_where_that_was_asked_for():
    """As it was published."""
    body, _ = said(result(), whole=True)
    assert body["data"]["receipt"]["answer"]["text"] == "the answer"
    assert "shortened" not in body["data"]


def test_a_body_is_bounded():
    """The whole gives way to the head, and that to less; the reader is told."""
    many = result(metadata={str(n): "x" * 1_000 for n in range(10)})
    body, size = said(many, whole=True, wording=Wording(most=12_000))
    assert size <= 12_000
    assert (body["data"]["shortened"], len(body["data"]["metadata"]), "receipt" in body["data"]) == (True, 10, False)
    body, size = said(many, whole=True, wording=Wording(most=2_000))
    assert size <= 2_000
    assert (body["data"]["shortened"], "metadata" in body["data"]) == (True, False)
    body, size = said(DEAD, wording=Wording(most=1_000))
    assert (size <= 1_000, "reason" in body["data"]) == (True, False)


def test_a_response_is_told_by_its_id():
    """As OpenAI does, and with a link."""
    end = result()
    body = json.loads(of_response(end, "resp_1", encode_value(end), "m", 1, False, Wording(base="https://a.example")))
    assert (body["type"], body["data"]) == (
        "response.completed", {"id": "resp_1", "link": "https://a.example/v1/responses/resp_1"},
    )  # fmt: skip


def test_an_answer_without_its_format_is_told_with_the_failure_and_its_place():
    """Other failures leave both out."""
    body, _ = said(DEAD.model_copy(update={"failure": "unparsable", "place": "/tall"}))
    assert (body["data"]["failure"], body["data"]["place"]) == ("unparsable", "/tall")
    assert {"failure", "place"}.isdisjoint(said(DEAD)[0]["data"])


def test_a_call_of_a_tool_is_told_by_its_finish_reason():
    """The call itself is in the receipt."""
    call = ToolCall(id="call_1", name="file", arguments='{"id": 3}')
    usage = Usage(prompt_tokens=3, completion_tokens=4)
    answer = Answer(
        text="", finish_reason="tool_calls", tool_calls=(call,), model="m", quantization="int8", usage=usage
    )
    told, _ = said(result(answer=answer), whole=True)
    assert (told["type"], told["data"]["finish_reason"]) == ("job.completed", "tool_calls")
    assert told["data"]["receipt"]["answer"]["tool_calls"] == [call.model_dump()]
