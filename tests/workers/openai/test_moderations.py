import pytest
from openai.types import ModerationCreateResponse
from tests.workers.openai.ends import ACCEPTED, ASKER, JOB_ID

from headrace_schemas import Finding, ModerationJob, ModerationVerdict, Result
from headrace_schemas.job import Lane
from headrace_workers.openai.endpoint import Asker
from headrace_workers.openai.errors import Refused
from headrace_workers.openai.moderations import read


def moderated(action="allow", findings=()):
    return Result(
        job_id=JOB_ID,
        tenant="shop",
        status="completed",
        kind="moderation",
        moderation=ModerationVerdict(action=action, findings=findings),
        accepted_at=ACCEPTED,
    )


def found(category, score, action):
    return Finding(category=category, detector="d", score=score, start=0, end=1, action=action)


def test_each_text_is_a_job_and_parts_are_one():
    """A list of texts is many, a list of parts is one text with a line each."""
    asker = Asker("shop", "k", Lane.INTERACTIVE)
    (job,) = read({"input": "a"}, asker).jobs
    assert job == ModerationJob(tenant="shop", idempotency_key="k", input="a")
    assert [job.input for job in read({"input": ["a", "b"]}, asker).jobs] == ["a", "b"]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [job.input for job in read({"input": parts}, asker).jobs] == ["a\nb"]


def test_a_verdict_is_told_by_category():
    """Objected to is what is not allowed; the score is the highest."""
    findings = (found("email", 0.9, "redact"), found("email", 0.5, "redact"), found("phone", 0.4, "allow"))
    body = read({"input": ["a", "b"]}, ASKER).answer([moderated("redact", findings), moderated()])
    one, other = body["results"]
    assert (one["flagged"], other["flagged"]) == (True, False)
    assert (one["categories"]["email"], one["categories"]["phone"]) == (True, False)
    assert (one["category_scores"]["email"], one["category_scores"]["phone"]) == (0.9, 0.4)
    assert one["category_applied_input_types"]["email"] == ["text"]
    assert "email" not in other["categories"]
    assert (body["id"], body["model"]) == (f"modr-{JOB_ID}", "headrace-policy")


def test_what_headrace_does_not_look_for_is_neither_true_nor_false():
    """The client's classes have OpenAI's categories as attributes; a false one would be a claim."""
    body = read({"input": "a"}, ASKER).answer([moderated()])
    result = ModerationCreateResponse.construct(**body).results[0]
    told = result if isinstance(result, dict) else result.model_dump(by_alias=True)
    assert len(told["categories"]) == 13
    assert set(told["categories"].values()) == {None}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": [{"type": "image_url", "image_url": {"url": "x"}}]}, "input[0].type"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": "a", "model": 1}, "model"),
        ({"input": "a", "user": "u"}, "user"),
    ],
)
def test_what_is_wrong_is_named(body, param):
    """As the body has it."""
    with pytest.raises(Refused) as caught:
        read(body, ASKER)
    assert caught.value.param == param
