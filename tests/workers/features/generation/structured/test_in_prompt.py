"""The format of an answer in the words of its prompt."""

import pytest
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Message
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.features.generation.structured.tools import with_format

SCHEMA = {"type": "object", "properties": {"größe": {"type": "integer"}}}
WRITTEN = '{"type":"object","properties":{"größe":{"type":"integer"}}}'
SYSTEM = Message(role="system", content="Be brief.")
USER = Message(role="user", content="How tall is it?")


def shown(output: OutputFormat | None, *turns: Message) -> tuple[Message, ...]:
    """Return these turns as a model reads them."""
    job = generation(prompt=None, messages=turns, output=output)
    return with_format(job.conversation, job)


def test_a_job_without_a_format_is_shown_as_it_is() -> None:
    """Nothing is added to the prompt of a job that asks for no format."""
    assert shown(None, SYSTEM, USER) == (SYSTEM, USER)


def test_the_schema_stands_compact_and_once_at_the_end_of_the_system_message() -> None:
    """The user's turn is unchanged, so that jobs of one format share the beginning of their prompts."""
    system, user = shown(JsonSchemaFormat(json_schema=SCHEMA), SYSTEM, USER)
    assert system.content.startswith("Be brief.\n\n")
    assert system.content.endswith(f"\n{WRITTEN}")
    assert user == USER


def test_without_a_system_message_the_last_turn_of_the_user_names_the_format() -> None:
    """Not every template knows system messages, so none is added."""
    earlier = (Message(role="user", content="Hi."), Message(role="assistant", content="Hello."))
    *before, last = shown(JsonSchemaFormat(json_schema=SCHEMA, name="Tree"), *earlier, USER)
    assert tuple(before) == earlier
    assert last.role == "user"
    assert last.content.startswith("How tall is it?\n\nAnswer with JSON of the format Tree")
    assert last.content.count(WRITTEN) == 1


def test_a_conversation_without_a_turn_of_the_user_gets_one() -> None:
    """The format is named even where the assistant alone has spoken."""
    said = Message(role="assistant", content="Hello.")
    first, added = shown(JsonObjectFormat(), said)
    assert first == said
    assert (added.role, "JSON object" in added.content) == ("user", True)


def test_the_schema_can_be_left_out_of_the_prompt() -> None:
    """With `in_prompt: false` the prompt is the caller's alone."""
    assert shown(JsonSchemaFormat(json_schema=SCHEMA, in_prompt=False), USER) == (USER,)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (JsonObjectFormat(), "Answer with a JSON object."),
        (ChoiceFormat(choices=("red", "blue")), "\n- red\n- blue"),
        (RegexFormat(pattern="[0-9]{4}"), "\n[0-9]{4}"),
        (GrammarFormat(grammar='start: "a"'), '\nstart: "a"'),
    ],
)
def test_other_formats_get_a_short_instruction(output: OutputFormat, words: str) -> None:
    """Each names what the answer must be."""
    (turn,) = shown(output, USER)
    assert words in turn.content
