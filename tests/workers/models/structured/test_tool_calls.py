"""Calls in what a model said: valid by their tools' schemas, or a reason that quotes nothing of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import GenerationJob
from headrace_schemas.errors import Unparsable
from headrace_schemas.events import FinishReason
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.models.generator import Completion
from headrace_workers.models.structured.tool_calls import calls_in, fault_of, with_tools

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10"
WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "more": {}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(name="clock")
SECRET = "swordfish"


def job(choice: Any = None, **fields: Any) -> GenerationJob:
    return GenerationJob(model="m", prompt="hi", tools=(WEATHER, CLOCK), tool_choice=choice, **fields)


def answer(
    text: str, choice: Any = None, finish: FinishReason = "stop", *calls: ToolCall, **fields: Any
) -> Completion | Unparsable:
    return with_tools(Completion(text, finish, 7, 2, tool_calls=calls), job(choice, **fields), JOB_ID)


def called(given_: Completion | Unparsable) -> tuple[str, str, dict[str, Any]]:
    """The text, and the one call of an answer: the tool and its arguments."""
    assert isinstance(given_, Completion), given_
    assert given_.finish_reason == "tool_calls"
    (call,) = given_.tool_calls
    return given_.text, call.name, json.loads(call.arguments)


def call(arguments: str, name: str = "get_weather", key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


ROME = call('{"city": "Rome"}')


@pytest.mark.parametrize(
    ("said", "before"),
    [
        (f"<tool_call>\n{ROME}\n</tool_call>", ""),
        (f"I look it up.\n<tool_call>\n{ROME}\n</tool_call>\nWait.", "I look it up."),
        (f"<tool_call>{ROME}", ""),
        (ROME, ""),
        (f"\n {ROME}\n", ""),
        (call('{"city": "Rome"}', key="parameters"), ""),
    ],
)
@pytest.mark.parametrize("choice", [None, "auto", "required", {"name": "get_weather"}])
def test_a_call_is_found_in_each_dialect(said: str, before: str, choice: Any) -> None:
    assert called(answer(said, choice)) == (before, "get_weather", {"city": "Rome"})


def test_the_id_of_a_call_follows_from_the_job() -> None:
    first, second = answer(ROME), answer(f"Well.\n<tool_call>{ROME}</tool_call>")
    assert isinstance(first, Completion)
    assert isinstance(second, Completion)
    assert first.tool_calls[0].id == second.tool_calls[0].id == "call_6f1d8a525d0c5c399a530d1f6f6c7f10"


BOTH = f"<tool_call>{ROME}</tool_call>\n<tool_call>{call('{}', 'clock')}</tool_call>"


@pytest.mark.parametrize("said", [BOTH, f"I look.{BOTH} Wait.", f"{ROME}\n{call('{}', 'clock')}"])
def test_an_answer_may_call_several_tools(said: str) -> None:
    found = answer(said)
    assert isinstance(found, Completion)
    assert [(tool_call.id, tool_call.name) for tool_call in found.tool_calls] == [
        ("call_6f1d8a525d0c5c399a530d1f6f6c7f10", "get_weather"),
        ("call_6f1d8a525d0c5c399a530d1f6f6c7f10_2", "clock"),
    ]


@pytest.mark.parametrize("fields", [{"parallel_tool_calls": False}, {"choice": {"name": "get_weather"}}])
def test_an_answer_has_one_call_where_its_caller_allows_one(fields: dict[str, Any]) -> None:
    sent = [
        ToolCall(id="b", name="get_weather", arguments='{"city": "Rome"}'),
        ToolCall(id="a", name="x", arguments=""),
    ]
    assert called(answer(BOTH, **fields))[1] == "get_weather"
    assert called(answer("", fields.pop("choice", None), "tool_calls", *sent, **fields))[1] == "get_weather"


@pytest.mark.parametrize(
    "broken", [call("{}", SECRET), call('{"city": 1}'), ROME[:-3], "", f"x{ROME}", call('{"city": "x", "city": "y"}')]
)
def test_a_later_call_that_is_broken_fails_the_whole_answer(broken: str) -> None:
    """The caller would act on half of what the model wanted."""
    for said in (f"<tool_call>{ROME}</tool_call><tool_call>{broken}", f"{ROME}\n{{{broken}"):
        found = answer(said)
        assert isinstance(found, Unparsable), said
        assert SECRET not in str(found)


@pytest.mark.parametrize("tail", ["\n<tool_c", f"\n<tool_call>\n{ROME[:-4]}", "\nNow the"])
def test_an_answer_that_is_cut_after_a_call_is_truncated(tail: str) -> None:
    found = answer(f"<tool_call>\n{ROME}\n</tool_call>{tail}", None, "length")
    assert isinstance(found, Unparsable)
    assert found.failure == "truncated"
    assert called(answer(f"<tool_call>\n{ROME}\n</tool_c", None, "length"))[1] == "get_weather"


def test_more_calls_than_an_answer_may_have_fail_it() -> None:
    sent = ToolCall.model_construct(id="", name="clock", arguments="{}")
    assert isinstance(answer("", None, "tool_calls", *[sent] * 128), Completion)
    assert isinstance(answer("", None, "tool_calls", *[sent] * 129), Unparsable)
    assert called(answer("", None, "tool_calls", *[sent] * 129, parallel_tool_calls=False))[1] == "clock"


def test_beside_a_format_a_call_begins_with_its_tag() -> None:
    beside: dict[str, Any] = {"output": {"type": "json_object"}}
    assert called(answer(f"\n<tool_call>{ROME}</tool_call>", **beside))[1] == "get_weather"
    for said in (ROME, f'{{"say": "<tool_call>{SECRET}"}}'):
        assert answer(said, **beside) == Completion(said, "stop", 7, 2)
    assert called(answer(ROME, "required", **beside))[1] == "get_weather"


@pytest.mark.parametrize(
    "text", ["It rains.", "", '{"weather": "rain"}', '{"name": "Rome"}', "Use {} here.", call("{}", "x")]
)
def test_a_model_that_may_choose_may_answer(text: str) -> None:
    assert answer(text, "auto") == Completion(text, "stop", 7, 2)
    assert isinstance(answer(text, "required"), Unparsable)


def test_without_an_offer_nothing_is_called() -> None:
    assert answer(ROME, "none") == Completion(ROME, "stop", 7, 2)
    assert answer("x", "none", "stop", ToolCall(id="a", name="clock", arguments="{}")) == Completion("x", "stop", 7, 2)


@pytest.mark.parametrize(
    ("said", "reason", "place"),
    [
        (call("{}", SECRET), "a tool is called that is not offered; offered are get_weather, clock", None),
        (call("[]"), "the arguments of get_weather are no object", ""),
        (call(f'"{SECRET}"'), "the arguments of get_weather are no object", ""),
        (call("{}"), '"city" is a required property', ""),
        (call(f'{{"city": "x", "{SECRET}": 1}}'), "it breaks additionalProperties", ""),
        (call(f'{{"city": "x", "days": "{SECRET}"}}'), 'is not of type "integer"', "/days"),
        (call('{"city": "x", "city": "y"}'), "an object has a key twice", None),
        ('{"name": "clock", "name": "clock", "arguments": {}}', "an object has a key twice", None),
        (call('{"city": "x", "days": NaN}'), "NaN is no JSON", None),
        (call('{"city": "x", "days": -Infinity}'), "-Infinity is no JSON", None),
        (call('{"city": "x", "more": 1e999}'), "a number is too large", None),
        (call('{"city": "\\ud800"}'), "half of a character", None),
        (call('{"city": ' + "[" * 10_000), "nested too deep", None),
        (call('{"city": "x", "more": ' + "[" * 600 + "]" * 600 + "}"), "nested too deep", None),
        (call(json.dumps({"city": "x" * 200_000})), "have 200,012 characters; the limit is 200,000", None),
        (ROME[:-1] + ', "id": "a"}', "a name and arguments, and nothing else", None),
        ('{"name": "get_weather", "arguments": {"city"', "no JSON", None),
        ("<tool_call>", "no JSON", None),
        (f"<tool_call>{SECRET}</tool_call>", "no JSON", None),
        ('<tool_call>{"name": 7, "arguments": {}}', "has no name", None),
        ("<tool_call>[]", "has no name", None),
        (f"{ROME} {SECRET}", "goes on after the call", str(len(ROME) + 1)),
    ],
)
def test_a_call_that_is_wrong_is_a_typed_failure(said: str, reason: str, place: str | None) -> None:
    found = answer(
        said if said.startswith("<") or place == str(len(ROME) + 1) else f"<tool_call>\n{said}\n</tool_call>"
    )
    assert isinstance(found, Unparsable), found
    assert found.failure == "unparsable"
    assert found.place == place
    assert SECRET not in str(found)
    with pytest.raises(Unparsable, match=reason):
        raise found


def test_a_call_that_its_tokens_cut_off_is_truncated() -> None:
    cut = answer(f"<tool_call>{ROME[:-4]}", None, "length")
    assert isinstance(cut, Unparsable)
    assert cut.failure == "truncated"
    assert called(answer(f"<tool_call>{ROME}", None, "length"))[2] == {"city": "Rome"}


@pytest.mark.parametrize("city", ["</tool_call>", "<tool_call>", 'a "b" {c}', "\n\t\\", "\x00", "🌧"])
def test_a_string_in_arguments_may_hold_anything(city: str) -> None:
    said = call(json.dumps({"city": city}))
    for text in (said, f"<tool_call>\n{said}\n</tool_call>"):
        found = answer(text)
        assert called(found) == ("", "get_weather", {"city": city})
        assert isinstance(found, Completion)
        assert "\x00" not in found.tool_calls[0].arguments


@given(text=st.text(max_size=60), forced=st.booleans(), opened=st.booleans())
def test_no_text_makes_it_raise(text: str, forced: bool, opened: bool) -> None:
    said = f"<tool_call>{text}" if opened else text
    before, calls, _ = calls_in(said, job("required" if forced else None).offer)
    if not calls:
        assert (before, forced, "<tool_call>" in said) == (said, False, False)


def test_a_call_of_a_provider_is_checked_like_any_other() -> None:
    sent = ToolCall.model_construct
    assert called(answer("", None, "tool_calls", sent(id="", name="clock", arguments=""))) == ("", "clock", {})
    for name, arguments in (
        ("\x00 drop", "{}"),
        ("clock", "{"),
        ("clock", "{} {}"),
        ("clock", '{"a": 1}'),
        ("get_weather", ""),
    ):
        found = answer("", None, "tool_calls", sent(id="x", name=name, arguments=arguments))
        assert isinstance(found, Unparsable), (name, arguments)


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [('{"city": "x"}', True), ('{"city": "x"', False), ("{}", False), ('{"city": "x"} {}', False)],
)
def test_arguments_can_be_checked_alone(arguments: str, valid: bool) -> None:
    assert (fault_of(WEATHER, arguments) is None) is valid
