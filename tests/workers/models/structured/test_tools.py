"""Tools: grammars of calls, and the words of a prompt about tools and formats."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from tests.workers.runtime.bridge.records import generation
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headrace_schemas import GenerationJob, Message
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_schemas.tool import MAX_TOOLS, NO_TOOLS, NamedTool, Offer, Tool, ToolCall, ToolChoice
from headrace_workers.models.structured.grammar import grammar_of_call
from headrace_workers.models.structured.schemas import check_format, check_tools_schemas
from headrace_workers.models.structured.tools import (
    MAX_TOOLS_BYTES,
    Dialect,
    check_size,
    in_words,
    with_format,
)

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(name="read-clock")
TOOLS = (WEATHER, CLOCK)
SKY = JsonSchemaFormat(json_schema={"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"],
                                    "additionalProperties": False})  # fmt: skip
ROME = '{"name": "get_weather", "arguments": {"city": "Rome"}}'


def offer(choice: ToolChoice | None, *tools: Tool, **fields: Any) -> Offer:
    return GenerationJob(model="m", prompt="hi", tools=tools or TOOLS, tool_choice=choice, **fields).offer


def accepts(grammar: str, text: str) -> bool:
    """Return True if the grammar derives this text as a whole."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar)
    content = list(text.encode())
    consumed = matcher.try_consume_tokens(content)
    assert not matcher.is_error(), matcher.get_error()
    return consumed == len(content) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", []), (None, ["get_weather", "read-clock"]), ("auto", ["get_weather", "read-clock"]),
        ("required", ["get_weather", "read-clock"]), (NamedTool(name="read-clock"), ["read-clock"]),
    ],
)  # fmt: skip
def test_a_choice_says_which_tools_are_offered(choice: ToolChoice | None, names: list[str]) -> None:
    assert [tool.name for tool in offer(choice).tools] == names


@pytest.mark.parametrize(
    ("dialect", "call"),
    [
        (Dialect.HERMES, f"<tool_call>\n{ROME}\n</tool_call>"),
        (Dialect.LLAMA, ROME.replace("arguments", "parameters")),
        (Dialect.JSON, ROME),
    ],
)
def test_a_forced_answer_is_a_call_and_nothing_else(dialect: Dialect, call: str) -> None:
    grammar = grammar_of_call(offer("required"), dialect)
    clock = call.replace("get_weather", "read-clock").replace('{"city": "Rome"}', "{}")
    assert accepts(grammar, call)
    assert accepts(grammar, clock)
    for wrong in ("", "It rains.", f"Well: {call}", f"{call} and", call.replace("get_weather", "get_wine"),
                  call.replace('"city"', '"town"'), clock.replace("{}", '{"city": "Rome"}')):  # fmt: skip
        assert not accepts(grammar, wrong)


def test_a_named_tool_is_the_only_one_in_the_grammar() -> None:
    grammar = grammar_of_call(offer(NamedTool(name="read-clock")), Dialect.JSON)
    assert accepts(grammar, '{"name": "read-clock", "arguments": {}}')
    assert not accepts(grammar, ROME)


def test_a_model_that_may_choose_says_anything_or_calls() -> None:
    grammar = grammar_of_call(offer("auto"), Dialect.HERMES)
    call = f"<tool_call>\n{ROME}\n</tool_call>"
    for right in (
        "",
        "It rains.",
        f"I look.\n{call}",
        call,
        f"I look.\n{call}\n{call}",
        "a < b, and <tool_cal",
        call.replace("Rome", "</tool_call>"),
        '{"name": "Rome", "temperature": 24}',
    ):
        assert accepts(grammar, right)
    for wrong in (f"{call}.", "<tool_call>", f"<tool_call>x{call}", call.replace("city", "town")):
        assert not accepts(grammar, wrong)


# An answer that begins as a call is read as one, so text behind it, or a call of another tool, would fail it.
BROKEN_CALLS = (
    ROME.replace("city", "town"), f"{ROME}\n{ROME.replace('get_weather', 'get_wine')}", f"{ROME} It rains.",
    '{"name": "get_weather", "city": "Rome"}',
)  # fmt: skip


def test_a_call_that_begins_as_text_is_one_valid_call() -> None:
    """Some models forget their tags."""
    grammar = grammar_of_call(offer("auto"), Dialect.HERMES)
    assert accepts(grammar, ROME)
    for wrong in (*BROKEN_CALLS, f"{BROKEN_CALLS[0]}<tool_call>\n{ROME}\n</tool_call>"):
        assert not accepts(grammar, wrong)


def test_tags_may_be_tokens_of_their_own() -> None:
    added = ["<tool_call>", "</tool_call>", "<|im_start|>", "<|end|>"]
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *added]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(added[2:])
    tokenizer.add_tokens(added[:2])
    end = tokenizer.token_to_id("<|end|>")
    call = f"<tool_call>\n{ROME}\n</tool_call>"

    def takes(choice: ToolChoice, text: str, output: OutputFormat | None = None) -> bool:
        grammar = grammar_of_call(offer(choice, output=output), Dialect.HERMES_TOKENS, output)
        matcher = LLMatcher(LLTokenizer(tokenizer.to_str(), eos_token=[end]), grammar, log_level=0)
        ids = tokenizer.encode(text).ids
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    assert takes("required", call)
    assert not takes("required", "It rains.")
    for right in (call, f"I look.\n{call}", "It rains.", ROME):
        assert takes("auto", right)
    for wrong in (call.replace("city", "town"), f"{call}.", "Hi<|im_start|>", f"Hi<|im_start|>{call}", "<tool_call>",
                  *BROKEN_CALLS):  # fmt: skip
        assert not takes("auto", wrong)
    for right in ('{"sky": "blue"}', call, f"{call}\n{call}"):
        assert takes("auto", right, SKY)
    for wrong in ("It rains.", f"I look.\n{call}", ROME):
        assert not takes("auto", wrong, SKY)


@pytest.mark.parametrize("dialect", [Dialect.HERMES, Dialect.JSON])
def test_an_answer_has_the_format_or_calls(dialect: Dialect) -> None:
    """A call stands in tags then: a bare one could be an answer in the format."""
    asked = offer("auto", output=SKY)
    grammar = grammar_of_call(asked, Dialect.HERMES if dialect is Dialect.JSON else dialect, SKY)
    call = f"<tool_call>\n{ROME}\n</tool_call>"
    for right in ('{"sky": "blue"}', call, f"{call}\n{call}"):
        assert accepts(grammar, right)
    for wrong in ("It rains.", ROME, f"I look.\n{call}", '{"sky": 1}', f'{{"sky": "blue"}}{call}'):
        assert not accepts(grammar, wrong)


def test_a_format_beside_tools_may_look_like_a_tag() -> None:
    odd = ChoiceFormat(choices=("<tool_cal", "yes"))
    grammar = grammar_of_call(offer("auto", output=odd), Dialect.HERMES, odd)
    assert accepts(grammar, "<tool_cal")
    assert accepts(grammar, f"<tool_call>\n{ROME}\n</tool_call>")
    assert not accepts(grammar, "no")


@pytest.mark.parametrize(
    ("choice", "several", "most"), [("required", True, 2), ("auto", False, 1), (NamedTool(name="get_weather"), True, 1)]
)
def test_an_answer_has_as_many_calls_as_its_caller_allows(choice: ToolChoice, several: bool, most: int) -> None:
    grammar = grammar_of_call(offer(choice, parallel_tool_calls=several), Dialect.HERMES)
    call = f"<tool_call>\n{ROME}\n</tool_call>"
    assert accepts(grammar, call)
    assert accepts(grammar, f"{call}\n{call}") is (most > 1)


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_model_may_end_its_line_after_a_call(choice: ToolChoice) -> None:
    """Qwen2.5 writes a line break, and then the end. If only another call could follow, it would call without end."""
    grammar = grammar_of_call(offer(choice), Dialect.HERMES)
    call = f"<tool_call>\n{ROME}\n</tool_call>"
    assert accepts(grammar, f"{call}\n")
    assert accepts(grammar, f"{call}\n{call}\n")
    assert not accepts(grammar, f"{call}\n\n")


def test_a_small_model_cannot_call_without_end() -> None:
    grammar = grammar_of_call(offer("required"), Dialect.JSON)
    assert accepts(grammar, "\n".join([ROME] * 16))
    assert not accepts(grammar, "\n".join([ROME] * 17))


def test_a_llama_that_may_choose_writes_no_half_of_a_call() -> None:
    grammar = grammar_of_call(offer("auto"), Dialect.LLAMA)
    call = ROME.replace("arguments", "parameters")
    assert accepts(grammar, call)
    assert accepts(grammar, "It rains.")
    assert accepts(grammar, '{"weather": "rain"}')
    assert not accepts(grammar, call.replace("city", "town"))
    assert not accepts(grammar, '{"name": "get_wine"}')


def test_tools_have_so_many_bytes_together() -> None:
    frame = len(json.dumps({"type": "object", "title": ""}))
    text = "x" * (MAX_TOOLS_BYTES - frame - 200)
    check_size([Tool(name="a", parameters={"type": "object", "title": text})])
    with pytest.raises(InvalidRecord, match=r"the tools have 262,\d+ bytes as JSON together; the limit is 262,144"):
        check_size(
            [Tool(name="a", parameters={"type": "object", "title": text}), Tool(name="b" * 64, description="y" * 64)]
        )


@pytest.mark.parametrize(
    ("parameters", "param", "said"),
    [
        ({"type": "string"}, "tools[1].parameters/type", 'have the type "string"'),
        ({"type": ["array", "null"]}, "tools[1].parameters/type", "arguments are an object"),
        ({"properties": {"a": {"type": "text"}}}, "tools[1].parameters/properties/a/type", "it is no JSON Schema"),
        (
            {"properties": {"a": {"$ref": "https://example.com/x.json"}}},
            "tools[1].parameters/properties/a/$ref",
            "leads out",
        ),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "tools[1].parameters/properties/a/$ref", "leads to nothing"),
    ],
)
def test_a_tool_whose_arguments_cannot_be_held_to_is_refused(
    parameters: dict[str, object], param: str, said: str
) -> None:
    with pytest.raises(InvalidRecord, match=said) as caught:
        check_tools_schemas([WEATHER, Tool(name="odd", parameters=parameters)], "t")
    assert caught.value.param == param


@pytest.mark.integration  # schemas are compiled in a process of their own
def test_as_many_tools_as_a_job_may_have_compile_with_a_large_format() -> None:
    many = [Tool(name=f"t{number}", parameters=WEATHER.parameters) for number in range(MAX_TOOLS)]
    fields = {f"p{n}": {"maxLength": 90 + n, "description": "d" * 480} for n in range(400)}
    large = JsonSchemaFormat(json_schema={"properties": fields})
    assert len(large.as_json) > 200_000
    check_tools_schemas(many, "t")
    check_format(large, "t")
    check_tools_schemas(many, "t", large)


@pytest.mark.integration  # schemas are compiled in a process of their own
def test_the_tool_that_cannot_be_compiled_is_named() -> None:
    parameters = {"properties": {"a": {"patternProperties": {"x": {}, "y": {}}}}}
    with pytest.raises(InvalidRecord, match="not disjoint") as caught:
        check_tools_schemas([WEATHER, Tool(name="odd", parameters=parameters)], "t")
    assert caught.value.param == "tools[1].parameters"


@pytest.mark.integration  # schemas are compiled in a process of their own
@pytest.mark.parametrize("parameters", [{}, {"type": ["object", "null"]}, {"properties": {"a": {}}}])
def test_parameters_may_leave_out_that_they_are_an_object(parameters: dict[str, object]) -> None:
    tool = Tool(name="open", parameters=parameters)
    check_tools_schemas([tool], "t")
    grammar = grammar_of_call(offer("required", tool), Dialect.JSON)
    assert accepts(grammar, '{"name": "open", "arguments": {}}')
    assert not accepts(grammar, '{"name": "open", "arguments": null}')


TOLD_CLOCK = Tool(name="clock", description="Tells the time.")
MUST = Offer((TOLD_CLOCK,), required=True)
ASKED = Message(role="user", content="What time is it?")
CALLED = Message(role="assistant", tool_calls=(ToolCall(id="c1", name="clock", arguments='{"zone": "UTC"}'),))
TOLD = Message(role="tool", tool_call_id="c1", content="12:00")


def test_tools_are_described_in_the_system_prompt() -> None:
    (alone, asked) = in_words([ASKED], MUST)
    (behind, _) = in_words([Message(role="system", content="Be brief."), ASKED], MUST)
    described = {"name": "clock", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}}}
    assert asked is ASKED
    assert (alone.role, behind.role) == ("system", "system")
    assert alone.content.splitlines()[1] == json.dumps(described)
    assert '{"name": <the tool\'s name>, "arguments": <' in alone.content
    assert behind.content == f"Be brief.\n\n{alone.content}"


def test_a_model_that_may_choose_is_told_so() -> None:
    told = in_words([ASKED], Offer((TOLD_CLOCK,), most=2))[0].content
    assert told.startswith("You may call these tools")
    assert told.endswith("on a line of its own.\nIf no tool helps, answer without a call.")
    assert "several" not in in_words([ASKED], Offer((TOLD_CLOCK,)))[0].content


def test_beside_a_format_calls_stand_in_tags() -> None:
    """In what the model is told, and in earlier turns, so that both say the same."""
    told, _, called, _ = in_words([ASKED, CALLED, TOLD], Offer((TOLD_CLOCK,), beside_format=True))
    assert '<tool_call>\n{"name": <the tool' in told.content
    assert called.content == '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    assert in_words([ASKED], NO_TOOLS) == (ASKED,)


def test_turns_about_calls_become_plain_turns() -> None:
    other = Message(role="tool", tool_call_id="gone", content="13:00")
    turns = in_words([ASKED, CALLED, TOLD, other, Message(role="user", content="So?")], NO_TOOLS)
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "What time is it?"),
        ("assistant", '{"name": "clock", "arguments": {"zone": "UTC"}}'),
        ("user", "The tool clock returned:\n12:00\n\nThe tool that you called returned:\n13:00\n\nSo?"),
    ]
    assert not any(turn.tool_calls or turn.tool_call_id for turn in turns)


def test_words_before_a_call_are_kept() -> None:
    said = CALLED.model_copy(update={"content": "I look."})
    assert (
        in_words([ASKED, said, TOLD], NO_TOOLS)[1].content == 'I look.\n{"name": "clock", "arguments": {"zone": "UTC"}}'
    )


SCHEMA = {"type": "object", "properties": {"größe": {"type": "integer"}}}
WRITTEN = '{"type":"object","properties":{"größe":{"type":"integer"}}}'
SYSTEM = Message(role="system", content="Be brief.")
USER = Message(role="user", content="How tall is it?")


def shown(output: OutputFormat | None, *turns: Message) -> tuple[Message, ...]:
    job = generation(prompt=None, messages=turns, output=output)
    return with_format(job.conversation, job)


def test_a_job_without_a_format_is_shown_as_it_is() -> None:
    assert shown(None, SYSTEM, USER) == (SYSTEM, USER)


def test_the_schema_stands_compact_and_once_at_the_end_of_the_system_message() -> None:
    """The user's turn is unchanged, so that jobs of one format share the beginning of their prompts."""
    system, user = shown(JsonSchemaFormat(json_schema=SCHEMA), SYSTEM, USER)
    assert system.content.startswith("Be brief.\n\n")
    assert system.content.endswith(f"\n{WRITTEN}")
    assert user == USER


def test_without_a_system_message_the_last_turn_of_the_user_names_the_format() -> None:
    earlier = (Message(role="user", content="Hi."), Message(role="assistant", content="Hello."))
    *before, last = shown(JsonSchemaFormat(json_schema=SCHEMA, name="Tree"), *earlier, USER)
    assert tuple(before) == earlier
    assert last.role == "user"
    assert last.content.startswith("How tall is it?\n\nAnswer with JSON of the format Tree")
    assert last.content.count(WRITTEN) == 1


def test_a_conversation_without_a_turn_of_the_user_gets_one() -> None:
    said = Message(role="assistant", content="Hello.")
    first, added = shown(JsonObjectFormat(), said)
    assert first == said
    assert (added.role, "JSON object" in added.content) == ("user", True)


def test_the_schema_can_be_left_out_of_the_prompt() -> None:
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
    (turn,) = shown(output, USER)
    assert words in turn.content
