import pytest
from openai.types import Completion
from tests.workers.features.generation.openai.ends import ASKER, JOB_ID, answered

from headrace_schemas import GenerationJob
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.completions import read
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused

ONE = {"model": "mill", "prompt": "Hello?"}


def test_a_prompt_is_one_turn_of_the_user():
    (job,) = read({**ONE, "max_tokens": 5, "temperature": 1, "stop": ["a", "b"], "user": "u"}, ASKER).jobs
    assert job == GenerationJob(
        tenant="shop",
        model="mill",
        prompt="Hello?",
        sampling={"max_tokens": 5, "temperature": 1, "stop": ("a", "b")},
        metadata={"user": "u"},
    )


def test_many_prompts_are_many_jobs():
    jobs = read({**ONE, "prompt": ["a", "b"]}, RequestContext("shop", "k", Lane.BATCH)).jobs
    assert [(job.prompt, job.idempotency_key, job.lane) for job in jobs] == [
        ("a", "k/0", "batch"),
        ("b", "k/1", "batch"),
    ]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"echo": True}, "echo"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_is_wrong_is_named(change, param):
    with pytest.raises(Refused) as caught:
        read({**ONE, **change}, ASKER)
    assert caught.value.param == param


def test_an_answer_is_a_completion():
    request = read({**ONE, "prompt": ["a", "b", "c"]}, ASKER)
    body = request.answer([answered("one"), answered("two", "length"), answered(None)])
    completion = Completion.model_validate(body)
    assert completion.id == f"cmpl-{JOB_ID}"
    assert [(c.index, c.text, c.finish_reason) for c in completion.choices] == [
        (0, "one", "stop"),
        (1, "two", "length"),
        (2, "", "content_filter"),
    ]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (
        21,
        9,
        30,
    )
    assert [receipt["job_id"] for receipt in completion.model_extra["headrace"]] == [JOB_ID] * 3
    assert read(ONE, ASKER).answer([answered()])["headrace"]["job_id"] == JOB_ID


def test_chunks_come_to_the_same_texts():
    request = read({**ONE, "prompt": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}}, ASKER)
    body = request.answer([answered("Once upon a time. " * 20), answered("", "length")])
    *chunks, last = list(request.chunks(body))
    for place, choice in enumerate(body["choices"]):
        parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == place]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [choice["finish_reason"]]
    assert ["headrace" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert (last["choices"], last["usage"]) == ([], body["usage"])
    assert all(Completion.model_validate(chunk) for chunk in (chunks[-1], last))
