"""Formats in the words of providers."""

from pathlib import Path
from typing import Any

import pytest
from tests.services.provider import Provider, Reply, echoes, providing
from tests.workers.features.generation.engines.remote_models import REMOTE_ENGINES, ask, remote

from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.generation.engines.remote.failures import ProviderRejects
from headrace_workers.features.generation.engines.remote.request_bodies import anthropic_schema, openai_schema

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
    """Return a request for this format."""
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
    """In the parameter of the messages API."""
    body = heard(tmp_path, "anthropic", JsonSchemaFormat(json_schema=PLAIN))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": WEAK}}


@pytest.mark.parametrize(
    "output", [JsonObjectFormat(), ChoiceFormat(choices=("a",)), JsonSchemaFormat(json_schema=LIST)]
)
def test_anthropic_is_sent_nothing_of_what_it_does_not_know(tmp_path: Path, output: OutputFormat) -> None:
    """The prompt tells it."""
    assert "output_config" not in heard(tmp_path, "anthropic", output)


def test_an_object_of_any_content_is_asked_for(tmp_path: Path) -> None:
    """Every OpenAI-compatible endpoint knows this format."""
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
    """The catalogue says which it takes."""
    assert not heard(tmp_path, "openai", output).keys() & {"structured_outputs", "response_format"}
    body = heard(tmp_path, "openai", output, formats=[output.type])
    assert body["structured_outputs"] == sent


def test_an_endpoint_that_holds_to_no_format_is_sent_none(tmp_path: Path) -> None:
    """Where the catalogue says so."""
    body = heard(tmp_path, "openai", JsonSchemaFormat(json_schema=PLAIN), formats=[])
    assert "response_format" not in body


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
def test_a_provider_that_refuses_the_format_is_asked_without_it(tmp_path: Path, engine: str) -> None:
    """Its answer is checked all the same; a request that it refuses even so is rejected."""
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
    """And Anthropic the other way round."""
    optional = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert (openai_schema(LIST), anthropic_schema(LIST)) == (LIST, None)
    assert openai_schema(optional) is None
    assert anthropic_schema(optional) == {**optional, "additionalProperties": False}
    defined = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    assert anthropic_schema(defined) is None
    assert anthropic_schema({"$ref": "#/$defs/a", "$defs": {"a": WEAK}}) is not None


def test_a_deep_schema_is_sent_to_neither() -> None:
    """A thousand levels are no fault of the process."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(1000):
        deep = {"type": "array", "items": deep}
    assert (openai_schema(deep), anthropic_schema(deep)) == (None, None)
