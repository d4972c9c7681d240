"""Admission of prompts with a format: it counts as tokens of the prompt."""

import pytest
from tests.workers.runtime.bridge.records import Models, generation

from headrace_schemas import GenerationJob, Sampling
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.message import Message
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import Tool
from headrace_workers.features.generation.admission import PromptCheck

pytestmark = pytest.mark.integration  # schemas are compiled in a process of their own

HOLDS = 100  # words of prompt


class Words(Models):
    """Models for which each word and each comma is a token, and which hold few."""

    def context_length(self, _alias: str) -> int | None:
        """Return a small context."""
        return HOLDS

    def prompt_tokens(
        self, _alias: str, messages: tuple[Message, ...], _tenant: str, tools: tuple[Tool, ...] = ()
    ) -> int | None:
        """Count them."""
        texts = [each.content for each in messages] + [each.description for each in tools]
        tokens = sum(len(text.replace(",", " ").split()) for text in texts)
        if tokens >= HOLDS:
            raise PromptTooLong(f"the prompt has {tokens} tokens, and the model holds {HOLDS}")
        return tokens


CHECK = PromptCheck(Words())


def asking(values: int, prompt: str = "hello", *, in_prompt: bool = True) -> GenerationJob:
    """Return a job whose schema has so many values."""
    output = JsonSchemaFormat(
        json_schema={"enum": [f"value-{number}" for number in range(values)]}, in_prompt=in_prompt
    )
    return generation(prompt=prompt, output=output, sampling=Sampling(max_tokens=7))


def test_the_schema_in_the_prompt_is_counted() -> None:
    """A job is sized by what its model reads."""
    few, many = CHECK.examine(asking(3)), CHECK.examine(asking(30))
    assert few is not None
    assert many == few + 27


def test_a_schema_that_exhausts_the_context_is_refused_with_that_reason() -> None:
    """The error names the format, and what to do."""
    job = asking(100)
    assert CHECK.is_doubtful(job)
    with pytest.raises(
        PromptTooLong, match=r"the format that stands in the prompt.*output\.in_prompt to false"
    ) as found:
        CHECK.examine(job)
    assert found.value.param == "output"


def test_tools_that_exhaust_the_context_are_refused_with_that_reason() -> None:
    """The error names the tools, but not where the conversation alone is too long."""
    tools = tuple(Tool(name=f"t{number}", description="word " * 30) for number in range(4))
    with pytest.raises(PromptTooLong, match=r"the tools that the prompt describes make it too long.*fewer") as found:
        CHECK.examine(generation(prompt="hello", tools=tools, tool_choice="required"))
    assert found.value.param == "tools"
    with pytest.raises(PromptTooLong) as found:
        CHECK.examine(generation(prompt="word " * 200, tools=tools, tool_choice="required"))
    assert found.value.param is None


def test_a_schema_that_is_left_out_of_the_prompt_costs_nothing() -> None:
    """It may have more values than the context has tokens."""
    assert CHECK.examine(asking(1_000, in_prompt=False)) == 1 + 7


def test_a_prompt_that_is_too_long_by_itself_is_refused_as_ever() -> None:
    """Its format is not to blame."""
    with pytest.raises(PromptTooLong) as found:
        CHECK.examine(asking(1, "word " * 200))
    assert found.value.param is None
