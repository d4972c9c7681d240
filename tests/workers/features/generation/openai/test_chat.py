import pytest
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered, cancelled

from headrace_schemas import GenerationJob, Message
from headrace_schemas.grounding import Grounding
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.chat import read
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused

HELLO = {"model": "mill", "messages": [{"role": "user", "content": "Hello?"}]}


def job_of(**more):
    (job,) = read({**HELLO, **more}, ASKER).jobs
    return job


def told(end=None, **more):
    return read({**HELLO, **more}, ASKER).answer([end or answered()])


def test_a_body_is_a_generation_job():
    body = {
        "model": "mill",
        "messages": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "refusal": "no", "tool_calls": None, "annotations": []},
            {"role": "user", "content": "c"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": "\n",
        "max_completion_tokens": 20,
        "service_tier": "flex",
        "metadata": {"order": "17"},
        "safety_identifier": "u1",
        "user": "u2",
        "headrace": {
            "top_k": 40,
            "repetition_penalty": 1.2,
            "cache": "exact",
            "max_age": 60,
            "knowledge": "mill",
            "without_passages": "answer",
            "criteria": [{"criterion": "json_valid"}],
            "reference": "r",
            "priority": 7,
            "deadline": "2026-01-31T12:00:00Z",
        },
    }
    (job,) = read(body, RequestContext("shop", "k", Lane.INTERACTIVE)).jobs
    assert job == GenerationJob.model_validate_json(
        """{"tenant": "shop", "idempotency_key": "k", "lane": "batch", "priority": 7,
            "deadline": "2026-01-31T12:00:00Z", "model": "mill",
            "metadata": {"order": "17", "safety_identifier": "u1", "user": "u2"},
            "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "a\\nb"},
                         {"role": "assistant", "content": "no"}, {"role": "user", "content": "c"}],
            "sampling": {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["\\n"], "max_tokens": 20, "top_k": 40,
                         "repetition_penalty": 1.2},
            "cache": "exact", "max_age": 60, "knowledge": "mill", "without_passages": "answer",
            "criteria": [{"criterion": "json_valid"}], "reference": "r"}"""
    )


def test_what_is_not_said_is_as_headrace_has_it():
    assert job_of() == GenerationJob(tenant="shop", model="mill", messages=(Message(role="user", content="Hello?"),))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_either_name_bounds_the_answer(name):
    assert job_of(**{name: 20}).sampling.max_tokens == 20
    with pytest.raises(Refused) as caught:
        job_of(**{name: 0})
    assert caught.value.param == name


def test_two_bounds_that_differ_are_refused():
    assert job_of(max_tokens=20, max_completion_tokens=20).sampling.max_tokens == 20
    with pytest.raises(Refused, match="differs from max_completion_tokens") as caught:
        job_of(max_tokens=20, max_completion_tokens=21)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "No Alias"}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": ["Hello?"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "name": 1}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": "a"}] * 129}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "\0"}]}, "messages[1].content"),
        ({"temperature": 3}, "temperature"),
        ({"stop": [""]}, "stop[0]"),
        ({"headrace": {"cache": "some"}}, "headrace.cache"),
        ({"headrace": {"repetition_penalty": 0}}, "headrace.repetition_penalty"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"n": 2}, "n"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
)
def test_what_is_wrong_is_named(change, param):
    with pytest.raises(Refused) as caught:
        job_of(**change)
    assert (caught.value.param, caught.value.status) == (param, 400)


def test_a_key_that_is_too_long_is_the_header_s():
    with pytest.raises(Refused) as caught:
        read(HELLO, RequestContext("shop", "k" * 257, Lane.INTERACTIVE))
    assert caught.value.param == "Idempotency-Key"


def test_the_same_body_gives_the_same_jobs():
    """So that it can be read again when its answer is there."""
    asker = RequestContext("shop", "k", Lane.INTERACTIVE)
    assert read(HELLO, asker).jobs == read(HELLO, asker).jobs


def test_an_answer_is_a_chat_completion():
    completion = ChatCompletion.model_validate(told(metadata={"order": "17"}))
    (choice,) = completion.choices
    assert completion.id == f"chatcmpl-{JOB_ID}"
    assert (completion.model, completion.created, completion.service_tier) == ("mill", 1769860800, "default")
    assert (choice.message.content, choice.message.role, choice.message.refusal) == ("Hello there.", "assistant", None)
    assert choice.finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (
        7,
        3,
        10,
    )
    assert completion.metadata == {"order": "17"}
    assert completion.model_extra["headrace"]["job_id"] == JOB_ID


@pytest.mark.parametrize(
    ("end", "content", "refusal", "finish_reason"),
    [
        (answered("cut", "length"), "cut", None, "length"),
        (answered(None), None, None, "content_filter"),
        (
            answered("", "abstained", grounding=Grounding(knowledge="mill", floor=0.35, reason="nothing is near")),
            None,
            "nothing is near",
            "stop",
        ),
    ],
)
def test_why_there_is_no_more(end, content, refusal, finish_reason):
    (choice,) = told(end)["choices"]
    assert choice["message"] == {"role": "assistant", "content": content, "refusal": refusal}
    assert choice["finish_reason"] == finish_reason


def test_a_job_that_was_not_answered_is_refused():
    with pytest.raises(Refused, match="was cancelled"):
        told(cancelled())


@pytest.mark.parametrize("end", [answered("Once upon a time. " * 20), answered(None), answered("", "abstained")])
def test_chunks_come_to_the_same_completion(end):
    request = read({**HELLO, "stream": True, "stream_options": {"include_usage": True}}, ASKER)
    assert request.stream
    body = request.answer([end])
    state = ChatCompletionStreamState()
    *chunks, last = [ChatCompletionChunk.model_validate(chunk) for chunk in request.chunks(body)]
    for chunk in (*chunks, last):
        state.handle_chunk(chunk)
    completion, wanted = state.current_completion_snapshot, ChatCompletion.model_validate(body)
    (one,), (other,) = completion.choices, wanted.choices
    assert (one.message.content or None, one.message.refusal) == (other.message.content, other.message.refusal)
    assert one.finish_reason == other.finish_reason
    assert (completion.id, completion.model, completion.usage) == (wanted.id, wanted.model, wanted.usage)
    assert last.choices == []
    assert chunks[-1].model_extra["headrace"] == body["headrace"]


def test_usage_comes_only_where_it_is_asked_for():
    """Else every chunk has a choice."""
    request = read({**HELLO, "stream": True}, ASKER)
    assert all(chunk["choices"] and "usage" not in chunk for chunk in request.chunks(request.answer([answered()])))
