"""Chains whose first model gives answers without their format: real workers, a real Redis, and real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import from_json
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.llama_server import llama_server
from tests.services.provider import Provider as Repairing
from tests.services.provider import Reply, providing
from tests.services.redis import RedisServer
from tests.workers.features.generation.outages.provider import Provider, catalogue, provider
from tests.workers.features.generation.outages.small_bridge import SmallBridge
from tests.workers.runtime.bridge.records import generation
from tests.workers.serving import listening, tasks_of
from tests.workers.worker_process import worker

from headrace_schemas import GenerationJob, Message, Sampling
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.tables import JOBS
from headrace_workers.testing import make_echo_model

TREE = JsonSchemaFormat(
    json_schema={
        "type": "object",
        "properties": {"tall": {"type": "integer"}, "note": {"type": "string", "maxLength": 40}},
        "required": ["tall"],
        "additionalProperties": False,
    }
)
CHAIN = ("far", "echo")
LONG = "far away " * 500  # the next model is not shown so much, and echoes the job's own prompt


@pytest.fixture
def far() -> Iterator[Provider]:
    """The provider of the model `far`, which always answers `far away`."""
    with provider() as made:
        yield made


@pytest.fixture
def bridge(ledger: Ledger, tmp_path: Path, redis_server: RedisServer, far: Provider) -> Iterator[SmallBridge]:
    """A bridge of a home with the models `far` and `echo`, and an empty Redis."""
    tasks_of(ledger, redis_server.url)._redis.flushall()
    catalogue(tmp_path, {"far": far.url}, {"careful": [*CHAIN]}, first_token=60.0, idle=60.0, open_calls=8)
    make_echo_model(tmp_path)
    with SmallBridge(ledger, tmp_path, redis_server.url) as made:
        yield made


def asking(text: str, **changes: object) -> GenerationJob:
    turns = (Message(role="system", content="Be brief."), Message(role="user", content=text))
    return generation(**{"model": CHAIN, "prompt": None, "messages": turns, "output": TREE, **changes})


def repairs(_provider: Repairing, reply: Reply) -> None:
    """Answer with a tree if the answer to be repaired is shown, and what is wrong with it."""
    *_, shown, objection = reply.heard.body["messages"]
    seen = (shown["role"], shown["content"], "does not have the format" in objection["content"])
    reply.start()
    reply.text('{"tall": 3}' if seen == ("assistant", "far away", True) else "what?")
    reply.end()


def test_the_second_model_repairs_the_answer_of_the_first(
    ledger: Ledger, far: Provider, tmp_path: Path, redis_server: RedisServer
) -> None:
    tasks_of(ledger, redis_server.url)._redis.flushall()
    with providing(repairs) as second:
        catalogue(tmp_path, {"far": far.url, "second": f"{second.url}/v1"}, first_token=60.0, idle=60.0)
        with (
            SmallBridge(ledger, tmp_path, redis_server.url) as bridge,
            worker(tmp_path, redis_server, "generate", model="far"),
            worker(tmp_path, redis_server, "generate", model="second"),
        ):
            listening(redis_server, "far", "second")
            (job_id,) = bridge.send([asking("How tall is it?", model=("far", "second"))])
            found = eventually(lambda: bridge.outputs([job_id]))
    answer = found[job_id].answer
    assert (answer.text, len(far.heard), len(second.heard)) == ('{"tall": 3}', 1, 1)
    assert [(attempt.model, attempt.failure) for attempt in answer.attempts] == [
        ("far", "unparsable"),
        ("second", None),
    ]
    assert second.heard[0].body["response_format"]["json_schema"]["schema"] == TREE.json_schema


def test_a_job_that_no_model_answers_well_is_dead_and_is_replayed_with_its_format(
    bridge: SmallBridge, far: Provider, ledger: Ledger, tmp_path: Path, redis_server: RedisServer
) -> None:
    with worker(tmp_path, redis_server, "generate", model="far"), worker(tmp_path, redis_server, "generate"):
        listening(redis_server, "far", "echo")
        far.text = LONG
        (job_id,) = bridge.send([asking('{"tall": "three"}', sampling=Sampling(max_tokens=32_700))])
        (letter,) = eventually(lambda: ledger.dead(DeadFilter()))
        assert (letter.job_id, letter.failure, letter.place) == (job_id, "unparsable", "/tall")
        assert "tried before: far (reroutable: the answer" in letter.reason
        ledger.replay(DeadFilter())
        ended = select(JOBS.c.replays).where(JOBS.c.state == "dead")
        assert eventually(lambda: ledger.read(ended)) == [(1,)]
    assert len(far.heard) == 1


@pytest.mark.slow
def test_a_server_that_holds_to_the_schema_answers_in_place_of_one_that_does_not(
    ledger: Ledger, far: Provider, tmp_path: Path, redis_server: RedisServer, smollm2_gguf: Path
) -> None:
    """llama.cpp's server is sent the schema, and its small model answers with a tree."""
    pytest.importorskip("xllamacpp")
    tasks_of(ledger, redis_server.url)._redis.flushall()
    with llama_server(smollm2_gguf) as url:
        catalogue(tmp_path, {"far": far.url, "llama": f"{url}/v1"}, {}, first_token=300.0, idle=300.0, total=600.0)
        with (
            SmallBridge(ledger, tmp_path, redis_server.url) as bridge,
            worker(tmp_path, redis_server, "generate", model="far"),
            worker(tmp_path, redis_server, "generate", model="llama"),
        ):
            listening(redis_server, "far", "llama")
            job = asking("How tall is an oak, in metres?", model=("far", "llama"), sampling=Sampling(max_tokens=64))
            (job_id,) = bridge.send([job])
            found = eventually(lambda: bridge.outputs([job_id]), 600)
    answer = found[job_id].answer
    assert isinstance(from_json(answer.text or "")["tall"], int)
    assert [(attempt.model, attempt.failure) for attempt in answer.attempts] == [("far", "unparsable"), ("llama", None)]
