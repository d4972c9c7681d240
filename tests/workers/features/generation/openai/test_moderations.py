import pytest
from openai.types import ModerationCreateResponse
from tests.workers.features.generation.openai.ends import ACCEPTED, ASKER, JOB_ID

from headrace_schemas import ModerationJob, ModerationVerdict, Result
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.moderations import read
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused


def moderated(action="allow", **verdict):
    return Result(
        job_id=JOB_ID,
        tenant="shop",
        status="completed",
        kind="moderation",
        moderation=ModerationVerdict(action=action, **verdict),
        accepted_at=ACCEPTED,
    )


def test_each_text_is_a_job_and_parts_are_one():
    asker = RequestContext("shop", "k", Lane.INTERACTIVE)
    (job,) = read({"input": "a"}, asker).jobs
    assert job == ModerationJob(tenant="shop", idempotency_key="k", input="a")
    assert [job.input for job in read({"input": ["a", "b"]}, asker).jobs] == ["a", "b"]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [job.input for job in read({"input": parts}, asker).jobs] == ["a\nb"]


def test_a_verdict_is_told_as_it_is():
    told = {
        "categories": {"personal_data": True, "hate": False},
        "category_scores": {"personal_data": 0.9, "hate": 0.4},
    }
    body = read({"input": ["a", "b"]}, ASKER).answer([moderated("redact", **told), moderated()])
    one, other = body["results"]
    assert (one["flagged"], other["flagged"]) == (True, False)
    for name, there in told.items():
        assert {key: one[name][key] for key in there} == there
    assert {key for key, types in one["category_applied_input_types"].items() if types} == {"personal_data", "hate"}
    assert [told["measured"] for told in body["headrace"]] == [["hate", "personal_data"], []]
    assert body["headrace"][0]["moderation"]["category_scores"] == told["category_scores"]
    assert (body["id"], body["model"]) == (f"modr-{JOB_ID}", "headrace-policy")


def test_a_category_that_nobody_looked_for_is_false_and_not_among_the_measured():
    """OpenAI's clients in typed languages fail on null."""
    body = read({"input": "a"}, ASKER).answer([moderated(categories={"hate": False}, category_scores={"hate": 0.0})])
    result = ModerationCreateResponse.construct(**body).results[0]
    told = result if isinstance(result, dict) else result.model_dump(by_alias=True)
    for name, kind in (("categories", bool), ("category_scores", float)):
        assert len(told[name]) == 20
        assert {(type(value), value) for value in told[name].values()} == {(kind, kind())}
    assert body["headrace"][0]["measured"] == ["hate"]


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
    with pytest.raises(Refused) as caught:
        read(body, ASKER)
    assert caught.value.param == param
