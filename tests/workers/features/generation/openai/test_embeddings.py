import base64
import struct

import pytest
from openai.types import CreateEmbeddingResponse
from tests.workers.features.generation.openai.ends import ACCEPTED, ASKER, JOB_ID, died

from headrace_schemas import Embedding, EmbeddingJob, Result, Usage
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.embeddings import read
from headrace_workers.features.generation.openai.request import RequestContext
from headrace_workers.http.openai import Refused

BODY = {"model": "minilm", "input": "a"}
FLOATS = (0.5, -1.0, 2.0)


def embedded(floats=FLOATS):
    vector = base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()
    return Result(
        job_id=JOB_ID,
        tenant="shop",
        status="completed",
        kind="embedding",
        embedding=Embedding(
            model="minilm",
            embedder="minilm/int8/ab12cd34ef56",
            dimensions=len(floats),
            vector=vector,
            usage=Usage(prompt_tokens=4, completion_tokens=0),
        ),
        accepted_at=ACCEPTED,
    )


def test_each_input_is_a_job():
    asker = RequestContext("shop", "k", Lane.INTERACTIVE)
    (job,) = read({**BODY, "dimensions": 8, "user": "u"}, asker).jobs
    assert job == EmbeddingJob(
        tenant="shop", idempotency_key="k", model="minilm", input="a", dimensions=8, metadata={"user": "u"}
    )
    jobs = read({**BODY, "input": ["a", "b"]}, asker).jobs
    assert [(job.input, job.idempotency_key) for job in jobs] == [("a", "k/0"), ("b", "k/1")]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_an_answer_is_a_list_of_vectors(encoding):
    body = read({**BODY, "input": ["a", "b"], "encoding_format": encoding}, ASKER).answer(
        [embedded(), embedded((1.0,))]
    )
    vectors = [entry["embedding"] for entry in body["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack(f"<{len(raw) // 4}f", raw)) for raw in map(base64.b64decode, vectors)]
    else:
        CreateEmbeddingResponse.model_validate(body)
    assert vectors == [[0.5, -1.0, 2.0], [1.0]]
    assert [entry["index"] for entry in body["data"]] == [0, 1]
    assert (body["model"], body["usage"]) == ("minilm", {"prompt_tokens": 8, "total_tokens": 8})
    assert [receipt["job_id"] for receipt in body["headrace"]] == [JOB_ID] * 2
    assert body["headrace"][0]["embedder"] == "minilm/int8/ab12cd34ef56"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": ["a", "\0"]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"model": None}, "model"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"headrace": {"cache": "exact"}}, "headrace.cache"),
    ],
)
def test_what_is_wrong_is_named(change, param):
    with pytest.raises(Refused) as caught:
        read({**BODY, **change}, ASKER)
    assert caught.value.param == param


def test_one_that_died_refuses_the_whole():
    """A list with a hole would shift what follows."""
    with pytest.raises(Refused, match="it cannot be done"):
        read({**BODY, "input": ["a", "b"]}, ASKER).answer([embedded(), died()])
