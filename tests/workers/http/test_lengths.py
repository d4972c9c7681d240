"""A prompt that is longer than its model's context is refused at the door."""

import openai
import pytest
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer
from tests.services.tables import sqlite_tables
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import served

from headrace_producers.admin import ensure_topics
from headrace_schemas import GenerationJob, Message
from headrace_schemas.errors import PromptTooLong
from headrace_workers.features.generation.admission import TURN_TOKENS, PromptCheck
from headrace_workers.features.moderation.leak import LONGEST_MARK, Canaries
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import Settings
from headrace_workers.testing import make_tiny_model

LONG = "x" * 3_000
TURN = {"role": "user", "content": LONG}
SHORT = {"role": "user", "content": "short"}
FORMAT = {"name": "word", "schema": {"enum": [f"value {n}" for n in range(400)]}}
TOOLS = [{"type": "function", "function": {"name": f"t{n}", "description": LONG[:1_500]}} for n in range(2)]


@pytest.fixture
def gateway(embedded_kafka: KafkaServer, redis_server: RedisServer, tmp_path, fresh_prefix: str):
    """With a model that has a tokenizer, and nobody who takes jobs in."""
    make_tiny_model(tmp_path)
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    ledger = sqlite_tables(tmp_path / "ledger.db")
    with served(Settings(home=tmp_path, kafka=kafka, redis=redis_server.url, ledger=ledger)) as found:
        yield found


def test_a_prompt_beyond_the_context_is_refused_in_openai_s_words(gateway):
    """By each way of asking, with the name of the parameter that makes it too long; nothing was sent."""
    with openai_of(gateway, max_retries=0) as client:
        asked = (
            ("messages", lambda: client.chat.completions.create(model="tiny", messages=[TURN])),
            ("input", lambda: client.responses.create(model="tiny", input=[TURN], background=True)),
            ("prompt", lambda: client.completions.create(model="tiny", prompt=["short", LONG])),
            (
                "response_format.json_schema",
                lambda: client.chat.completions.create(
                    model="tiny", messages=[SHORT], response_format={"type": "json_schema", "json_schema": FORMAT}
                ),
            ),
            (
                "tools",
                lambda: client.chat.completions.create(
                    model="tiny", messages=[SHORT], tools=TOOLS, tool_choice="required"
                ),
            ),
        )
        for param, ask in asked:
            with pytest.raises(openai.BadRequestError, match="the context of tiny holds 2048") as caught:
                ask()
            assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)
    with gateway.client() as own:
        told = own.post("/v1/jobs", json={"model": "tiny", "prompt": LONG})
        assert (told.status_code, told.json()["type"]) == (400, "urn:headrace:problem:invalid")
        # Near the bound: it is counted, and fits.
        assert own.post("/v1/jobs", json={"model": "tiny", "prompt": "x" * 2_020}).status_code == 202


def test_input_tokens_are_counted_without_a_model(gateway):
    """As the model would read them, tools and all; what is wrong is told as for a response."""
    with openai_of(gateway, max_retries=0) as client:
        count, hello = client.responses.input_tokens.count, {"model": "tiny", "input": "Name three rivers."}
        counted = count(**hello)
        assert counted.object == "response.input_tokens"
        tool = {"type": "function", **TOOLS[0]["function"]}
        assert count(**hello, tools=[tool]).input_tokens > counted.input_tokens > 0
        assert count(**hello, instructions="Be brief.").input_tokens > counted.input_tokens
        with pytest.raises(openai.BadRequestError, match="the context of tiny holds 2048"):
            count(model="tiny", input=[TURN])
        with pytest.raises(openai.NotFoundError):
            count(model="none-such", input="a")
        held = client.models.retrieve("tiny").model_extra["headrace"]
        assert (held["context_length"], held["tools"], "regex" in held["formats"]) == (2048, "prompt", True)


def test_the_mark_of_a_system_prompt_counts(tmp_path):
    """A prompt that only the mark makes too long is refused; without a mark, and with less, it fits."""
    make_tiny_model(tmp_path)
    registry = Registry(tmp_path)
    marked = Canaries([b"a secret"], lambda tenant: tenant == "marked")
    check = PromptCheck(CountingModels(tmp_path, registry, marked.shown, longest_mark=LONGEST_MARK))

    def asked(tenant: str, rest: int) -> GenerationJob:
        room = registry.get("tiny").context_length - 2 * TURN_TOKENS - len("Be.") - rest
        turns = (Message(role="system", content="Be."), Message(role="user", content=hostile[:room]))
        return GenerationJob(model="tiny", tenant=tenant, messages=turns)

    # Letters that no merge of the tiny model's knows, so that each is a token, as the quick look takes them to be.
    hostile = "".join(chr(33 + n * 7 % 90) for n in range(4_000))
    for job in (asked("plain", 1), asked("marked", 400)):
        check.examine(job)
    assert not check.is_doubtful(asked("marked", LONGEST_MARK + 1))
    assert check.is_doubtful(asked("marked", 1))
    with pytest.raises(PromptTooLong):
        check.examine(asked("marked", 1))
