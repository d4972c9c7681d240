from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.services.provider import Provider, Reply, echoes, providing
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, ask, catalogue, remote
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, Output
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry
from headrace_workers.core.pipeline.chain import tried_in
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.generation.admission import PromptCheck
from headrace_workers.features.generation.stage import generate
from headrace_workers.http.openai import refused
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.engines.remote.failures import ProviderRejects
from headrace_workers.models.engines.remote.request_bodies import anthropic_schema, openai_schema
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.registry import Registry
from headrace_workers.testing import make_echo_model

PLAIN = {"type": "object", "properties": {"tall": {"type": "integer", "minimum": 1}}, "required": ["tall"]}
WEAK = {
    "type": "object", "properties": {"tall": {"type": "integer"}}, "required": ["tall"], "additionalProperties": False,
}  # fmt: skip
LIST = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["next"],
    "additionalProperties": False,
}


def asking(output: OutputFormat) -> Request:
    plain = ask("hi there")
    return Request(plain.messages, plain.sampling, output=output)


def heard(home: Path, engine: str, output: OutputFormat, **entries: Any) -> dict[str, Any]:
    """Return the body by which a provider is asked for this format."""
    with providing() as provider:
        (answer,) = remote(home, engine, provider.url, **entries).generate([asking(output)])
        assert isinstance(answer, Completion), answer
        (found,) = provider.heard
    return found.body


def test_a_schema_is_sent_whole_to_an_endpoint_that_holds_to_it(tmp_path: Path) -> None:
    """Servers such as llama.cpp and vLLM take all of it; a dot in its name, which OpenAI refuses, is changed."""
    body = heard(tmp_path, "openai", JsonSchemaFormat(json_schema=PLAIN, name="my_tree"))
    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "my_tree", "schema": PLAIN, "strict": False},
    }  # fmt: skip


@pytest.mark.parametrize(("schema", "strict"), [(PLAIN, True), ({"type": "array", "items": PLAIN}, False)])
def test_openai_is_sent_its_strict_subset_where_a_schema_fits(
    tmp_path: Path, schema: dict[str, Any], strict: bool
) -> None:
    """Else it is sent the schema as it is, which it follows as well as it can."""
    body = heard(tmp_path, "openai", JsonSchemaFormat(json_schema=schema), provider="openai")
    sent = body["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (strict, WEAK if strict else schema)


def test_anthropic_is_sent_its_subset(tmp_path: Path) -> None:
    body = heard(tmp_path, "anthropic", JsonSchemaFormat(json_schema=PLAIN))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": WEAK}}


@pytest.mark.parametrize(
    "output", [JsonObjectFormat(), ChoiceFormat(choices=("a",)), JsonSchemaFormat(json_schema=LIST)]
)
def test_anthropic_is_sent_nothing_of_what_it_does_not_know(tmp_path: Path, output: OutputFormat) -> None:
    assert "output_config" not in heard(tmp_path, "anthropic", output)


def test_an_object_of_any_content_is_asked_for(tmp_path: Path) -> None:
    assert heard(tmp_path, "openai", JsonObjectFormat())["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        (ChoiceFormat(choices=("a", "b")), {"choice": ["a", "b"]}),
        (RegexFormat(pattern="a+"), {"regex": "a+"}),
        (GrammarFormat(grammar='start: "a"'), {"grammar": 'start: "a"'}),
    ],
)
def test_other_formats_are_sent_only_to_an_endpoint_that_takes_them(
    tmp_path: Path, output: OutputFormat, sent: dict[str, Any]
) -> None:
    assert not heard(tmp_path, "openai", output).keys() & {"structured_outputs", "response_format"}
    body = heard(tmp_path, "openai", output, formats=[output.type])
    assert body["structured_outputs"] == sent


def test_an_endpoint_that_holds_to_no_format_is_sent_none(tmp_path: Path) -> None:
    body = heard(tmp_path, "openai", JsonSchemaFormat(json_schema=PLAIN), formats=[])
    assert "response_format" not in body


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
def test_a_provider_that_refuses_the_format_is_asked_without_it(tmp_path: Path, engine: str) -> None:
    refuses = {"all": False}

    def picky(provider: Provider, reply: Reply) -> None:
        if refuses["all"] or reply.heard.body.keys() & {"response_format", "output_config"}:
            reply.status(400, {"error": {"message": "unsupported schema", "type": "invalid_request_error"}})
        else:
            echoes(provider, reply)

    with providing(picky) as provider:
        generator = remote(tmp_path, engine, provider.url)
        (answer,) = generator.generate([asking(JsonSchemaFormat(json_schema=PLAIN))])
        assert isinstance(answer, Completion)
        assert len(provider.heard) == 2
        refuses["all"] = True
        (refused,) = generator.generate([asking(JsonSchemaFormat(json_schema=PLAIN))])
        assert isinstance(refused, ProviderRejects)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": {"$ref": "other.json"}}, "required": ["a"]},
        {"type": "object", "properties": {}, "patternProperties": {"^a": {"type": "string"}}},
        {"type": "object", "properties": {}, "anyOf": [{"type": "object", "properties": {}}]},
        {"allOf": [PLAIN, WEAK]},
        {"type": "object", "properties": {"a": {"enum": list(range(1001))}}, "required": ["a"]},
    ],
)
def test_a_schema_that_cannot_be_weakened_is_not(schema: dict[str, Any]) -> None:
    """No provider is sent a schema that forbids valid answers, or means something else."""
    assert openai_schema(schema) is None
    assert anthropic_schema(schema) is None


def test_openai_takes_recursion_and_no_optional_properties() -> None:
    optional = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert (openai_schema(LIST), anthropic_schema(LIST)) == (LIST, None)
    assert openai_schema(optional) is None
    assert anthropic_schema(optional) == {**optional, "additionalProperties": False}
    defined = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    assert anthropic_schema(defined) is None
    assert anthropic_schema({"$ref": "#/$defs/a", "$defs": {"a": WEAK}}) is not None


def test_a_deep_schema_is_sent_to_neither() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(1000):
        deep = {"type": "array", "items": deep}
    assert (openai_schema(deep), anthropic_schema(deep)) == (None, None)


TREE = JsonSchemaFormat(json_schema={"type": "object", "required": ["tall"]})


@pytest.fixture(params=REMOTE_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that asks a provider."""
    return str(request.param)


def outcome_of(home: Path, engine: str, *texts: str, finish: str = "stop", output: OutputFormat = TREE) -> Outcome:
    """Return the outcome of a job that asks for a format, whose provider answers with these texts one after another."""

    def writes(_provider: Provider, reply: Reply) -> None:
        reply.start()
        for text in texts:
            reply.text(text)
        reply.end(finish)

    job = generation(model=("far", "near"), output=output)
    task = Task("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", job, job, datetime(2026, 1, 1, tzinfo=UTC))
    with providing(writes) as provider:
        (outcome,) = generate([task], generator=remote(home, engine, provider.url))
    return outcome


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("It is 3 metres tall.", "0"),
        ('```json\n{"tall": 3}\n```', "0"),
        ('{"tall": 3', "10"),
        ('{"tall": 3} and more', "12"),
        ('{"tall": 3, "tall": 4}', None),
        ('{"tall": NaN}', None),
        ('{"wide": 3}', ""),
        ("[" * 100_000, None),
    ],
)
def test_an_answer_without_its_format_is_a_typed_failure(
    tmp_path: Path, engine: str, text: str, place: str | None
) -> None:
    retry = outcome_of(tmp_path, engine, text)
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("unparsable", Category.REROUTABLE)
    assert place in (None, retry.place)
    (tried,) = tried_in(retry.context)
    assert (tried.failure, tried.provider) == ("unparsable", "own")
    assert retry.usage is not None


def test_an_answer_with_its_format_goes_on(tmp_path: Path, engine: str) -> None:
    done = outcome_of(tmp_path, engine, ' {"tall"', ": 3} ")
    assert isinstance(done, Done)
    assert isinstance(done.event, Output)
    assert done.event.answer.text == ' {"tall": 3} '


def test_an_object_is_what_json_object_asks_for(tmp_path: Path, engine: str) -> None:
    assert isinstance(outcome_of(tmp_path, engine, "{}", output=JsonObjectFormat()), Done)
    retry = outcome_of(tmp_path, engine, "[]", output=JsonObjectFormat())
    assert isinstance(retry, Retry)
    assert retry.failure == "unparsable"


def test_an_answer_that_the_limit_cut_is_truncated(tmp_path: Path, engine: str) -> None:
    retry = outcome_of(tmp_path, engine, '{"tall": ', finish="length")
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("truncated", Category.TRANSIENT)
    assert retry.context["room"] == 512


def test_an_answer_of_ten_megabytes_is_truncated_and_not_asked_for_again(tmp_path: Path, engine: str) -> None:
    """It is read as far as an answer may go; more room would not help, so the next model is asked."""
    retry = outcome_of(tmp_path, engine, '{"tall": "', *["x" * 100_000] * 100, '"}')
    assert isinstance(retry, Retry)
    assert (retry.failure, retry.category) == ("truncated", Category.REROUTABLE)
    assert "repair" not in retry.context


def check_of(home: Path, engine: str = "openai", **entries: object) -> PromptCheck:
    """Return the check of a home with the remote model `far` and the local model `echo`."""
    catalogue(home, engine, "http://localhost:9", **entries)
    make_echo_model(home)
    return PromptCheck(CountingModels(home, Registry(home)))


@pytest.mark.parametrize(
    ("engine", "lacks", "sampling", "named"),
    [
        ("openai", [], {"top_k": 5}, "top_k"),
        ("openai", [], {"repetition_penalty": 1.2}, "repetition_penalty"),
        ("openai", ["seed"], {"seed": 0}, "seed"),
        ("openai", ["temperature"], {"temperature": 0.7}, "temperature"),
        ("openai", ["stop"], {"stop": ["x"]}, "stop"),
        ("anthropic", [], {"temperature": 1.0}, "temperature"),
        ("anthropic", [], {"top_p": 0.5}, "top_p"),
        ("anthropic", [], {"seed": 7}, "seed"),
    ],
)
def test_a_parameter_that_the_model_lacks_is_refused(
    tmp_path: Path, engine: str, lacks: list[str], sampling: dict[str, object], named: str
) -> None:
    """By what the engine never sends, and by what the entry says; the error names the field, also as HTTP has it."""
    check = check_of(tmp_path, engine, lacks=lacks)
    with pytest.raises(InvalidRecord, match=f"the model far has no parameter {named}") as caught:
        check.check(generation(model="far", sampling=sampling))
    assert caught.value.param == f"sampling.{named}"
    own = ("top_k", "repetition_penalty")
    told = refused(caught.value)
    assert (told.param, told.status) == (f"headrace.{named}" if named in own else named, 400)
    assert told.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "sampling", [{}, {"max_tokens": 5}, {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "stop": []}]
)
def test_a_usual_value_asks_for_nothing(tmp_path: Path, sampling: dict[str, object]) -> None:
    check_of(tmp_path, "anthropic", lacks=["stop"]).check(generation(model="far", sampling=sampling))


def test_a_model_of_this_machine_has_them_all(tmp_path: Path) -> None:
    check_of(tmp_path).check(generation(model="echo", sampling={"temperature": 0.5, "top_k": 5, "seed": 3}))


def test_each_model_of_a_chain_must_have_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match="the model far has no parameter top_k"):
        check_of(tmp_path).check(generation(model=("echo", "far"), sampling={"top_k": 5}))
