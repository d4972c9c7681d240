"""Moderation of calls: their arguments are read and redacted like text, and stay valid or are withheld."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import Answer, GenerationJob, Message, Moderated, Output, Usage
from headrace_schemas.output_format import JsonObjectFormat
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ledger.outcome import Done, Held
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import CONTEXT, ENTRY
from headrace_workers.features.cache.store.entries import Withdraw
from headrace_workers.features.moderation.moderator import build_moderator
from headrace_workers.features.moderation.step import (
    SeenPrompts,
    brought,
    called_with,
    moderate,
    screen,
    text_of,
    with_redacted,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEND = Tool(
    name="send",
    parameters={
        "type": "object",
        "properties": {"to": {"type": "string"}, "card": {"type": "integer"}, "texts": {}, "urgent": {}},
        "required": ["to"],
    },
)
STRICT = Tool(name="strict", parameters={"properties": {"to": {"type": "string", "format": "email"}}})
JOB = GenerationJob(model="m", prompt="hello", tools=(SEND, STRICT))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def calls(arguments: Any, name: str = "send", text: str = "") -> Answer:
    call = ToolCall(id="call_1", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
    return Answer(
        text=text, finish_reason="tool_calls", model="m", quantization="int8", tool_calls=(call,),
        usage=Usage(prompt_tokens=1, completion_tokens=1),
    )  # fmt: skip


def task(answer: Answer, **fields: Any) -> Task:
    output = Output(job_id="6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10", tenant="default", answer=answer)
    return Task(output.job_id, JOB, output, NOW, **fields)


def moderated(answer: Answer, **fields: Any) -> Moderated:
    (outcome,) = moderate([task(answer, **fields)], moderator=build_moderator())
    assert isinstance(outcome, Done), outcome
    assert isinstance(outcome.event, Moderated)
    return outcome.event


@given(
    text=st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=20),
    value=st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
)
def test_what_nobody_redacts_comes_back_as_it_was(text: str, value: dict[str, Any]) -> None:
    """Whatever the texts are, lines of dashes among them: the parts are told apart again."""
    tool = Tool(name="any", parameters={"type": "object"})
    for said in (text, f"{text}\n---\n", "\n" + "-" * 40):
        answer = calls({**value, "dashes": ["\n---\n", "----"]}, "any", said)
        assert with_redacted(answer, text_of(answer), [tool]) == answer


@pytest.mark.parametrize(("to", "action"), [("the miller", "allow"), ("jo@headrace.io", "redact")])
def test_a_call_needs_no_format_that_an_answer_without_one_has(to: str, action: str) -> None:
    """A job may ask for a format beside its tools: the call is not that answer."""
    job = JOB.model_copy(update={"output": JsonObjectFormat()})
    (outcome,) = moderate([replace(task(calls({"to": to})), job=job)], moderator=build_moderator())
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.moderation.action == action
    assert len(outcome.event.answer.tool_calls) == 1


def test_an_address_in_arguments_is_redacted() -> None:
    """In the text, in a value, in a value of a list, and in the name of a field; the rest stays as it is."""
    value = {
        "to": "jo@headrace.io",
        "texts": ["Write to jo@headrace.io", 1, None, {"jo@headrace.io": True}],
        "urgent": True,
    }
    event = moderated(calls(value, text="I write to jo@headrace.io."))
    assert event.moderation.action == "redact"
    assert event.answer.text == "I write to [EMAIL]."
    (call,) = event.answer.tool_calls
    assert json.loads(call.arguments) == {
        "to": "[EMAIL]", "texts": ["Write to [EMAIL]", 1, None, {"[EMAIL]": True}], "urgent": True
    }  # fmt: skip


@pytest.mark.parametrize("value", ["\njo@headrace.io", "a\tjo@headrace.io", "\u006ao@headrace.io"])
def test_escapes_hide_nothing(value: str) -> None:
    """The moderator reads what a tool will read, and never JSON's escapes."""
    answer = calls({"to": "x"}).tool_calls[0].model_copy(update={"arguments": json.dumps({"to": value})})
    event = moderated(calls({"to": "x"}).model_copy(update={"tool_calls": (answer,)}))
    assert "jo@headrace.io" not in event.answer.tool_calls[0].arguments
    assert "[EMAIL]" in event.answer.tool_calls[0].arguments


@pytest.mark.parametrize(
    ("name", "value"), [("send", {"to": "x", "card": 4111111111111111}), ("strict", {"to": "jo@headrace.io"})]
)
def test_a_call_that_redaction_breaks_is_withheld(name: str, value: dict[str, Any]) -> None:
    """A number that becomes a text, and an address that its tool needs: the verdict says why."""
    event = moderated(calls(value, name))
    assert event.moderation.action == "block"
    assert event.moderation.reason is not None
    assert "the arguments of its call would not be what the tool takes" in event.moderation.reason
    assert (event.answer.text, event.answer.tool_calls) == (None, ())


def test_a_blocked_answer_shows_no_call() -> None:
    """A secret in an argument blocks the answer as one in its text does, and withdraws it from the cache."""
    key = "AKIA" + "IOSFODNN7EXAMPLE"
    context = {CONTEXT: {ENTRY: 7}}
    (outcome,) = moderate([task(calls({"to": "x", "texts": key}), context=context)], moderator=build_moderator())
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.tool_calls == () or key not in outcome.event.answer.tool_calls[0].arguments
    assert outcome.rows == (Withdraw(7),)


def test_a_released_call_goes_on_as_it_was() -> None:
    """Nothing was redacted in it, so a person's release is an allowance."""
    answer = calls({"to": "x"})
    (outcome,) = moderate([task(answer, woken_by=RELEASED)], moderator=build_moderator())
    assert not isinstance(outcome, Held)
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer == answer


def screened(job: GenerationJob, *, trusts: bool = False) -> str:
    """The text that a moderator is shown of a prompt."""
    shown: list[str] = []

    class Listening:
        def moderate(self, texts: Any, *_rest: Any) -> Any:
            shown.extend(texts)
            return build_moderator().moderate(texts)

    step = Task("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10", job, job, NOW)
    screen([step], screener=Listening(), seen_prompts=SeenPrompts(), trusts_system=lambda _tenant: trusts)
    return shown[0]


def test_screening_reads_tools_calls_and_results() -> None:
    """All of them are a caller's words; the tools of a trusted system are trusted, too."""
    tool = Tool(name="t", description="WORD1", parameters={"properties": {"WORD2": {"enum": ["WORD3"]}}})
    call = ToolCall(id="a", name="t", arguments='{"WORD4": ["\\u0057ORD5", 66]}')
    turns = (
        Message(role="user", content="WORD6"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="a", content="WORD7"),
    )
    job = GenerationJob(model="m", messages=turns, tools=(tool,))
    text = screened(job)
    assert [
        word for word in ("WORD1", "WORD2", "WORD3", "WORD4", "WORD5", "66", "WORD6", "WORD7") if word not in text
    ] == []
    trusted = screened(job, trusts=True)
    assert "WORD1" not in trusted
    assert "WORD5" in trusted


def test_another_call_is_another_conversation() -> None:
    """A conversation that passed with one call is screened again with another."""
    seen = SeenPrompts()
    first, second = (
        brought(GenerationJob(model="m", messages=(
            Message(role="user", content="x"),
            Message(role="assistant", tool_calls=(ToolCall(id="a", name="t", arguments=arguments),)),
            Message(role="user", content="y"),
        )), False)
        for arguments in ("{}", '{"a": 1}')
    )  # fmt: skip
    seen.note(seen.now(), "a", first)
    assert len(seen.new("a", first)) == 1
    assert len(seen.new("a", second)) > 1


@pytest.mark.parametrize("arguments", ["{", "[" * 50_000, '"x"'])
def test_broken_arguments_are_read_as_text(arguments: str) -> None:
    """A caller may send anything as a call of before."""
    turn = Message(role="assistant", tool_calls=(ToolCall(id="a", name="t", arguments=arguments),))
    assert list(called_with(turn)) == [arguments.strip('"')]
