"""Decisions of OpenAI's clients: the job that they ask for, and its answer in the client's types."""

from typing import Any

import pytest
from openai.types import Decision
from tests.workers.features.generation.openai.ends import ACCEPTED, ASKER, JOB_ID, answered, died

from headrace_schemas import DecisionJob, Decisions, Result, Usage
from headrace_schemas.decision import (
    ChoiceAnswer,
    ChoiceProbability,
    LevelProbability,
    PredicateAnswer,
    RefusedAnswer,
    ScoreAnswer,
)
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.decisions import read
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused

PREDICATE: dict[str, Any] = {"type": "predicate", "instructions": "Is it urgent?"}
CHOICE: dict[str, Any] = {
    "type": "choice",
    "name": "queue",
    "instructions": "Which?",
    "choices": [{"value": "true"}, {"value": True, "description": "yes"}],
}
SCORE: dict[str, Any] = {"type": "score", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "mad"}]}
BODY: dict[str, Any] = {"model": "mill", "input": "It is late.", "questions": [PREDICATE, CHOICE, SCORE]}


def job_of(body: dict[str, Any]) -> DecisionJob:
    (job,) = read(body, ASKER).jobs
    assert isinstance(job, DecisionJob)
    return job


def text_of(*items: dict[str, Any]) -> str | None:
    return job_of({**BODY, "input": list(items)}).input


def decided(**fields: Any) -> Result:
    answers = (
        PredicateAnswer(type="predicate", probability=0.75, mass=0.5, calibrated=True),
        ChoiceAnswer(
            type="choice",
            name="queue",
            choice=True,
            confidence=0.6,
            probabilities=(
                ChoiceProbability(value="true", probability=0.4),
                ChoiceProbability(value=True, probability=0.6),
            ),
        ),
        ScoreAnswer(
            type="score",
            score=0.3,
            confidence=0.7,
            probabilities=(
                LevelProbability(label="calm", probability=0.7, value=0),
                LevelProbability(label="mad", probability=0.3, value=1),
            ),
            stated=True,
        ),
        RefusedAnswer(type="refusal", reason="it has 9,000 tokens"),
    )
    made = Decisions(
        model="mill",
        quantization="int8",
        usage=Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2),
        answers=answers,
    )
    return Result(
        **{
            "job_id": JOB_ID,
            "tenant": "shop",
            "status": "completed",
            "kind": "decision",
            "decisions": made,
            "accepted_at": ACCEPTED,
            **fields,
        }
    )


def test_a_body_is_one_job() -> None:
    asker = RequestContext("shop", "k", Lane.INTERACTIVE)
    wishes = {"screen": True, "priority": 7}
    (job,) = read({**BODY, "safety_identifier": "u", "headrace": wishes, "prompt_cache_key": None}, asker).jobs
    assert isinstance(job, DecisionJob)
    assert (job.tenant, job.idempotency_key, job.model, job.input) == ("shop", "k", "mill", "It is late.")
    assert (job.screen, job.priority, job.metadata) == (True, 7, {"safety_identifier": "u"})
    assert [question.type for question in job.questions] == ["predicate", "choice", "score"]


def test_an_answer_is_a_decision_of_the_client() -> None:
    body = read(BODY, ASKER).answer([decided()])
    decision = Decision.model_validate(body)
    predicate, choice, score, refusal = decision.answers
    assert (predicate.type, predicate.name) == ("predicate", None)
    assert choice.type == "choice"
    assert (choice.choice, [repr(probability.value) for probability in choice.probabilities]) == (
        True,
        ["'true'", "True"],
    )
    assert score.type == "score"
    assert [(probability.label, probability.value, probability.probability) for probability in score.probabilities] == [
        ("calm", 0, 0.7),
        ("mad", 1, 0.3),
    ]
    assert refusal.type == "refusal"
    assert (decision.usage.input_tokens, decision.usage.output_tokens, decision.usage.total_tokens) == (7, 3, 10)
    assert decision.usage.input_tokens_details.cached_tokens == 2
    assert [answer.get("headrace") for answer in body["answers"]] == [
        {"mass": 0.5, "calibrated": True, "stated": False},
        {"calibrated": False, "stated": False},
        {"calibrated": False, "stated": True},
        {"calibrated": False, "stated": False, "reason": "it has 9,000 tokens"},
    ]
    assert not any("mass" in answer for answer in body["answers"])
    assert (body["headrace"]["job_id"], body["headrace"]["quantization"]) == (JOB_ID, "int8")


def test_questions_about_an_input_that_moderation_blocked_are_refused() -> None:
    blocked = decided(status="blocked", refusal="prompt_blocked", decisions=None)
    body = read(BODY, ASKER).answer([blocked])
    Decision.model_validate(body)
    assert [(answer["type"], answer["name"]) for answer in body["answers"]] == [
        ("refusal", None),
        ("refusal", "queue"),
        ("refusal", None),
    ]


@pytest.mark.parametrize("end", [died(), answered()])
def test_an_end_without_decisions_is_an_error(end: Any) -> None:
    with pytest.raises(Refused):
        read(BODY, ASKER).answer([end])


def test_an_input_of_several_items_is_a_text_in_their_order() -> None:
    user = {"role": "user", "content": [{"type": "input_text", "text": "Where is it?"}]}
    assert text_of(user) == "Where is it?"
    call = {"type": "function_call", "call_id": "c", "name": "track", "arguments": '{"id": 7}'}
    output = {"type": "function_call_output", "call_id": "c", "output": "in Basel"}
    custom = {"type": "custom_tool_call", "call_id": "d", "name": "shell", "input": "ls"}
    listed = {
        "type": "custom_tool_call_output",
        "call_id": "d",
        "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
    }
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "In Basel."}]}
    data = {"role": "user", "content": [{"type": "input_json", "data": {"late": True, "days": [1, "ü"]}}]}
    assert text_of({"role": "system", "content": "Be kind."}, user, call, output, custom, listed, said, data) == (
        'system: Be kind.\n\nuser: Where is it?\n\nassistant: calls track with {"id": 7}\n\ntrack: in Basel\n\n'
        "assistant: calls shell with ls\n\nshell: a\nb\n\nassistant: In Basel.\n\n"
        'user: {"late":true,"days":[1,"ü"]}'
    )


IMAGE = {"type": "input_image", "image_url": "https://shop.example/cat.png"}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": None}, "missing_required_parameter", "input"),
        ({"questions": None}, "missing_required_parameter", "questions"),
        ({"temperature": 1}, "unknown_parameter", "temperature"),
        ({"prompt_cache_key": "k"}, "unsupported_parameter", "prompt_cache_key"),
        ({"headrace": {"knowledge": "manual"}}, "unknown_parameter", "headrace.knowledge"),
        ({"questions": [PREDICATE] * 401}, "invalid_value", "questions"),
        ({"questions": [{"type": "predicate"}]}, "missing_required_parameter", "questions[0].instructions"),
        ({"questions": [PREDICATE, {"type": "guess"}]}, "invalid_value", "questions[1].type"),
        ({"questions": [PREDICATE | {"choices": []}]}, "unknown_parameter", "questions[0].choices"),
        ({"questions": [CHOICE | {"choices": [{"value": "a"}]}]}, "invalid_value", "questions[0].choices"),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a"}, {"value": 1}]}]},
            "invalid_value",
            "questions[0].choices[1].value",
        ),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a", "weight": 1}]}]},
            "unknown_parameter",
            "questions[0].choices[0].weight",
        ),
        ({"questions": [SCORE | {"levels": [{"label": "a"}] * 2}]}, "invalid_value", "questions[0]"),
        ({"questions": [PREDICATE | {"name": "a"}] * 2}, "invalid_value", "questions"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "unsupported_parameter", "input[0].content[0].type"),
        (
            {"questions": [PREDICATE | {"instructions": [IMAGE]}]},
            "unsupported_parameter",
            "questions[0].instructions[0].type",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]},
            "invalid_value",
            "input[0].call_id",
        ),
        ({"input": [{"type": "item_reference", "id": "i"}]}, "unsupported_parameter", "input[0].type"),
        ({"input": ["text"]}, "invalid_value", "input[0]"),
    ],
)
def test_what_cannot_be_had_is_named(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Refused) as caught:
        read({**BODY, **body}, ASKER)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
