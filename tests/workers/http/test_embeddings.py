import base64
import struct

import openai
import pytest
from tests.chaos.deployment import Deployment
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

from headrace_workers.runtime.settings import ModelSettings


@pytest.fixture(scope="module")
def client(gateway: Gateway, deployment: Deployment):
    deployment.start("recall")
    with openai_of(gateway) as found:
        yield found


def test_each_text_has_its_vector(client: openai.OpenAI):
    texts = ["Name three rivers.", "Name three lakes.", "Name three rivers."]
    response = client.embeddings.create(model="hash", input=texts)
    vectors = [entry.embedding for entry in response.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-5)
    assert response.usage.total_tokens == response.usage.prompt_tokens > 0
    assert len({receipt["job_id"] for receipt in response.model_extra["headrace"]}) == 3
    told = client.embeddings.create(model="hash", input=texts[0], encoding_format="float").data[0].embedding
    assert told == pytest.approx(vectors[0])
    raw = client.embeddings.create(model="hash", input=texts[0], encoding_format="base64").data[0].embedding
    assert list(struct.unpack(f"<{len(vectors[0])}f", base64.b64decode(raw))) == pytest.approx(vectors[0])


def test_a_vector_may_be_shortened(client: openai.OpenAI):
    (embedding,) = client.embeddings.create(model="hash", input="Name three rivers.", dimensions=8).data
    assert len(embedding.embedding) == 8


def test_another_embedder_is_named(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="Name three rivers.")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_text_that_cannot_be_embedded_is_named(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="hash", input=["Name three rivers.", ""])
    assert caught.value.param == "input[1]"


def test_more_dimensions_than_there_are_is_the_requests_fault(client: openai.OpenAI):
    """Only a worker knows how many its embedder has: its words come back as those of the door would, and no 500."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="hash", input="Name three rivers.", dimensions=65)
    assert caught.value.code == "invalid_value"
    assert "dimensions is 65, and vectors of hash have 64" in caught.value.message


def test_an_embedder_that_is_not_here_is_no_model(alone: Gateway):
    """Though it is the one that this deployment would have: as a model that nobody has, with the way to get it."""
    assert alone.settings.of(ModelSettings).embedder == "all-minilm-l6-v2"
    with openai_of(alone) as client:
        for asked in (
            lambda: client.embeddings.create(model="all-minilm-l6-v2", input="Name three rivers."),
            lambda: client.chat.completions.create(model="gone", messages=[{"role": "user", "content": "Name one."}]),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                asked()
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
            assert "all-minilm-l6-v2` gets one" in caught.value.message or "'gone'" in caught.value.message
    with alone.client() as native:
        told = native.post("/v1/jobs", json={"kind": "embedding", "model": "all-minilm-l6-v2", "input": "Rivers."})
    assert (told.status_code, told.json()["type"]) == (400, "urn:headrace:problem:invalid")
