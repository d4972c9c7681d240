from uuid import uuid4

import openai
import pytest
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

from headrace_schemas.job import derive_job_id

RIVERS = [{"role": "user", "content": "Name three rivers."}]


@pytest.fixture(scope="module")
def client(gateway: Gateway):
    with openai_of(gateway) as found:
        yield found


def test_a_conversation_is_answered(client: openai.OpenAI):
    found = client.chat.completions.create(
        model="echo",
        messages=RIVERS,
        metadata={"order": "17"},
        safety_identifier="u1",
        service_tier="flex",
        extra_body={"headrace": {"criteria": [{"criterion": "contains", "text": "rivers"}]}},
    )
    (choice,) = found.choices
    assert "three" in choice.message.content
    assert (choice.finish_reason, found.model, found.service_tier) == ("stop", "echo", "flex")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens > 0
    receipt = found.model_extra["headrace"]
    assert receipt["metadata"] == {"order": "17", "safety_identifier": "u1"}
    assert receipt["judge"]["scores"][0]["value"] == 1.0
    assert [stage["stage"] for stage in receipt["stages"]] == ["generate", "moderate", "judge"]


def test_a_text_is_moderated(client: openai.OpenAI):
    messages = [{"role": "user", "content": "Write to ann@headrace.io."}]
    completion = client.chat.completions.create(model="echo", messages=messages)
    assert "[EMAIL]" in completion.choices[0].message.content
    with client.chat.completions.stream(model="echo", messages=messages) as stream:
        assert "[EMAIL]" in stream.get_final_completion().choices[0].message.content


def test_chunks_come_to_the_answer(client: openai.OpenAI):
    question = {"role": "user", "content": "Once upon a time there was a mill. " * 10}
    chunks = list(
        client.chat.completions.create(
            model="echo", messages=[question], stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    whole = client.chat.completions.create(model="echo", messages=[question])
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_under_a_key_it_is_one_job(client: openai.OpenAI):
    key = str(uuid4())
    ids = {
        client.chat.completions.create(model="echo", messages=RIVERS, extra_headers={"Idempotency-Key": key}).id
        for _ in range(2)
    }
    assert ids == {f"chatcmpl-{derive_job_id('default', key)}"}
    other = [{"role": "user", "content": "Name three lakes."}]
    with pytest.raises(openai.ConflictError):
        client.chat.completions.create(model="echo", messages=other, extra_headers={"Idempotency-Key": key})


def test_stored_completions_are_not_here(client: openai.OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.list()
    assert caught.value.status_code == 405
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve("chatcmpl-x")
