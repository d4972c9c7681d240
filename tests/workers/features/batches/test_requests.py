"""Lines of OpenAI's Batch API: the same mapping as the gateway's, and OpenAI's shapes in both files."""

import base64
import struct

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from sqlalchemy import select
from tests.workers.features.batches.running import dead, jobs, with_usage

from headrace_schemas import Category, ModerationVerdict, Usage
from headrace_schemas.events import Embedding
from headrace_workers.core.tables import JOBS

CHAT = "/v1/chat/completions"


def chat(name, text="hello", url=CHAT, **body):
    body = {"model": "echo", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def embedding(name, inputs):
    body = {"model": "vectors", "input": inputs}
    return {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body}


def vector(row):
    event = with_usage(row)
    packed = base64.b64encode(struct.pack("<2f", 0.6, 0.8)).decode()
    found = Embedding(
        model="vectors", embedder="vectors/float32", dimensions=2, vector=packed,
        usage=Usage(prompt_tokens=4, completion_tokens=0),
    )  # fmt: skip
    stage = event.stages[0].model_copy(update={"stage": "embed"})
    return event.model_copy(update={"kind": "embedding", "answer": None, "embedding": found, "stages": (stage,)})


def test_answers_have_openais_shape(running):
    batch_id = running.submit([chat("a"), chat("b")], endpoint=CHAT)
    running.run()
    assert running.batch(batch_id).completion_tokens == 4
    for line, name in zip(running.output(batch_id), ("a", "b"), strict=True):
        assert (line["custom_id"], line["error"], line["response"]["status_code"]) == (name, None, 200)
        answer = ChatCompletion.model_validate(line["response"]["body"])
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("yes", 5)
        assert line["response"]["body"]["headrace"]["job_id"] == line["response"]["request_id"]
        assert line["id"].startswith("batch_req_")


def test_a_line_of_many_inputs_is_one_answer(running):
    batch_id = running.submit([embedding("many", ["one", "two", "three"]), embedding("one", "four")])
    running.turn()
    assert [row.line for row in running.ledger.read(select(JOBS.c.line).order_by(JOBS.c.line))] == [1, 1, 1, 2]
    assert running.end(vector, limit=2, queue="embed") == 2
    running.turn(2)
    assert running.batch(batch_id).completed <= 1
    running.end(vector, queue="embed")
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.state, batch.completed, batch.prompt_tokens) == ("completed", 2, 16)
    many = next(line for line in running.output(batch_id) if line["custom_id"] == "many")
    answer = CreateEmbeddingResponse.model_validate(many["response"]["body"])
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert answer.data[0].embedding == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"custom_id": "x", "body": {}}, "method, url is missing"),
        ({**chat("x"), "headers": {}}, "headers: a request has custom_id"),
        ({**chat("x"), "method": "GET"}, "it must be POST"),
        (chat("x", url="/v1/images/generations"), "it may be /v1/chat/completions"),
        ({**chat("x"), "body": []}, "must be a JSON object"),
        (chat("x", logit_bias={"1": 2}), "logit_bias"),
        (chat("x", model="unknown"), "no model is called 'unknown'"),
        (chat("x", stream=True), "a batch has no streams"),
        ({**chat("x"), "custom_id": 7}, "custom_id must be a text"),
        ({**chat("x"), "custom_id": None}, "custom_id: must be a text"),
        ({"custom_id": "x", "model": "echo", "prompt": "hello"}, "a job has its `idempotency_key`"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(running, line, words):
    """In the error file, and nothing else stops."""
    batch_id = running.submit([line, chat("good")])
    running.run()
    (error,) = running.error_lines(batch_id)
    assert error["line"] == 1
    assert words in error["error"]["message"]
    assert [item["custom_id"] for item in running.output(batch_id)] == ["good"]


def test_lines_of_a_batch_go_where_it_does(running):
    lines = [chat("a"), embedding("b", "x"), *jobs(1)]
    batch_id = running.submit(lines, endpoint=CHAT)
    running.run()
    messages = [line["error"]["message"] for line in running.error_lines(batch_id)]
    assert "all lines of this batch go to /v1/chat/completions" in messages[0]
    assert "no request to /v1/chat/completions" in messages[1]
    mixed = running.submit(lines)
    running.turn()
    running.end(vector, queue="embed")
    running.run()
    assert running.batch(mixed).completed == 3


def test_what_has_no_answer_has_openais_error(running):
    """With the HTTP status that the gateway would have given, and the code."""
    batch_id = running.submit([chat("a"), chat("b")])
    running.run(lambda row: (Category.TRANSIENT, "the worker is busy"))
    batch = running.batch(batch_id)
    assert (batch.state, batch.failed) == ("failed", 2)
    first = running.error_lines(batch_id)[0]
    assert (first["custom_id"], first["error"]["code"]) == ("a", "transient")
    assert first["response"]["status_code"] == 503
    assert "the worker is busy" in first["response"]["body"]["error"]["message"]


def test_one_dead_of_many_fails_the_line(running):
    batch_id = running.submit([embedding("many", ["one", "two"])])
    running.turn()
    running.end(dead, limit=1, queue="embed")
    running.end(vector, queue="embed")
    running.settle()
    assert running.errors(batch_id) == [(1, "permanent")]
    assert running.batch(batch_id).spent > 4


def test_moderations_are_verdicts(running):
    line = {"custom_id": "m", "method": "POST", "url": "/v1/moderations", "body": {"input": "hello"}}

    def verdict(row):
        event = with_usage(row)
        return event.model_copy(
            update={"kind": "moderation", "answer": None, "moderation": ModerationVerdict(action="allow")}
        )

    batch_id = running.submit([line])
    running.turn()
    running.end(verdict, queue="moderate")
    running.settle()
    (found,) = running.output(batch_id)
    assert [result["flagged"] for result in found["response"]["body"]["results"]] == [False]


def test_responses_and_completions_are_answered_too(running):
    """In their own shapes; what a response would go on from is not there."""
    response = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": {"model": "echo", "input": "hello"}}
    completion = {
        "custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"model": "echo", "prompt": "hello"}
    }  # fmt: skip
    behind = {**response, "custom_id": "p", "body": {**response["body"], "previous_response_id": "resp_1"}}
    batch_id = running.submit([response, completion, behind])
    running.run()
    bodies = {line["custom_id"]: line["response"]["body"] for line in running.output(batch_id)}
    assert Response.model_validate(bodies["r"]).output_text == "yes"
    assert bodies["c"]["choices"][0]["text"] == "yes"
    (error,) = running.error_lines(batch_id)
    assert (error["line"], "previous_response_id" in error["error"]["message"]) == (3, True)
