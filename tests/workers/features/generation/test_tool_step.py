"""The generate step of jobs with tools: the call in the output, or a typed failure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from headrace_schemas import Category, GenerationJob, HeadraceError, Output
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ledger.outcome import Done, Retry
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.generation.stage import generate

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10"
LAMP = Tool(name="set_lamp", parameters={"properties": {"on": {"type": "boolean"}}, "required": ["on"]})


class Model:
    """A generator that gives one answer, and remembers what it was asked."""

    alias, quantization, context_length = "small", "int8", 2048

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        self.asked += requests
        return [Completion(self.text, "stop", 7, 2) for _ in requests]


def outcome(generator: Model, **fields: Any) -> object:
    job = GenerationJob(**{"model": "small", "prompt": "Light!", "tools": (LAMP,), "tool_choice": "required", **fields})
    (found,) = generate([Task(JOB_ID, job, job, datetime(2026, 1, 1, tzinfo=UTC))], generator=generator)
    return found


def test_a_call_goes_out_with_the_output() -> None:
    """The model is asked with the tools, and the output has the call, an empty text and its finish reason."""
    model = Model('{"name": "set_lamp", "arguments": {"on": true}}')
    found = outcome(model)
    assert isinstance(found, Done)
    assert isinstance(found.event, Output)
    call = ToolCall(id="call_6f1d8a525d0c5c399a530d1f6f6c7f10", name="set_lamp", arguments='{"on": true}')
    assert found.event.answer.tool_calls == (call,)
    assert (found.event.answer.text, found.event.answer.finish_reason) == ("", "tool_calls")
    assert (model.asked[0].offer.tools, model.asked[0].offer.required) == ((LAMP,), True)


def test_an_answer_in_the_format_or_a_call_is_done() -> None:
    """Neither is judged by the rules of the other; a text that is neither is a typed failure."""
    beside = {"tool_choice": "auto", "output": {"type": "choice", "choices": ["yes", "no"]}}
    for said, calls in (("yes", 0), ('<tool_call>{"name": "set_lamp", "arguments": {"on": true}}</tool_call>', 1)):
        found = outcome(Model(said), **beside)
        assert isinstance(found, Done)
        assert isinstance(found.event, Output)
        assert len(found.event.answer.tool_calls) == calls
    again = outcome(Model('{"name": "set_lamp", "arguments": {"on": true}}'), **beside)
    assert isinstance(again, Retry)
    assert again.failure == "unparsable"


def test_a_wrong_call_is_a_typed_failure() -> None:
    """With the place in the arguments; the model repairs it once, and of a chain the next model does."""
    again = outcome(Model('{"name": "set_lamp", "arguments": {"on": 1}}'), sampling={"temperature": 0.0})
    assert isinstance(again, Retry)
    assert (again.failure, again.place) == ("unparsable", "/on")
    retry = outcome(Model("It is light."), model=("small", "large"))
    assert isinstance(retry, Retry)
    assert (retry.category, retry.failure) == (Category.REROUTABLE, "unparsable")
