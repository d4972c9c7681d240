"""Tests of formats of answers in the Python client: what `output` takes, and how an end is read."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from headrace_producers import InvalidJob, MemoryProducer
from headrace_schemas import Answer, DeadLetter, GenerationJob, JobCancelled, Result, Usage
from headrace_schemas.errors import NoAnswer, Unparsable
from headrace_schemas.output_format import ChoiceFormat, JsonSchemaFormat, OutputFormat
from headrace_schemas.tool import NamedTool, Tool

_JOB = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"


class Ticket(BaseModel):
    title: str
    urgency: Literal["low", "high"]
    tags: list[str] = Field(default=[], max_length=3)

    @field_validator("title")
    @classmethod
    def _is_short(cls, title: str) -> str:
        if len(title) > 20:
            raise ValueError("the title is too long")
        return title


class _Unspeakable(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    value: MemoryProducer


def _format_of(output: Any) -> OutputFormat | None:
    producer = MemoryProducer()
    producer.generate(prompt="Hello", output=output)
    [(_, job)] = producer.jobs
    assert isinstance(job, GenerationJob)
    return job.output


def test_takes_a_model() -> None:
    assert _format_of(Ticket) == JsonSchemaFormat(json_schema=Ticket.model_json_schema(), name="Ticket")


@pytest.mark.parametrize("schema", [{"type": "object"}, {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, {}])
def test_takes_a_schema_as_a_dict(schema: dict[str, Any]) -> None:
    assert _format_of(schema) == JsonSchemaFormat(json_schema=schema)


@pytest.mark.parametrize("output", [ChoiceFormat(choices=("yes", "no")), {"type": "choice", "choices": ["yes", "no"]}])
def test_takes_a_format(output: Any) -> None:
    assert _format_of(output) == ChoiceFormat(choices=("yes", "no"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (int, "output: must be an object"),
        ("json", "output: must be an object"),
        ({"type": "choice", "choices": []}, "choices"),
        (_Unspeakable, "output: _Unspeakable has no JSON Schema"),
        ({"default": float("inf")}, "JSON does not have"),
    ],
)
def test_refuses_what_is_no_format(output: Any, words: str) -> None:
    with pytest.raises(InvalidJob, match=words):
        _format_of(output)


def test_sends_tools() -> None:
    """Tools and the choice among them are the job's."""
    producer = MemoryProducer()
    tool = {"name": "look_up", "parameters": {"type": "object"}}

    producer.generate(prompt="Hello", tools=[tool], tool_choice={"name": "look_up"})

    [(_, job)] = producer.jobs
    assert isinstance(job, GenerationJob)
    assert job.tools == (Tool(name="look_up", parameters={"type": "object"}),)
    assert job.tool_choice == NamedTool(name="look_up")


def _result(text: str | None, finish_reason: str = "stop", status: str = "completed") -> Result:
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    answer = Answer.model_validate(
        {"text": text, "finish_reason": finish_reason, "model": "m", "quantization": "int8", "usage": usage}
    )
    fields = {"job_id": _JOB, "tenant": "shop", "kind": "generation", "accepted_at": "2026-01-01T00:00:00Z"}
    return Result.model_validate({**fields, "status": status, "answer": answer})


def test_parses_an_answer() -> None:
    receipt = _result('{"title": "Mill stands still", "urgency": "high"}')

    assert receipt.parsed(Ticket) == Ticket(title="Mill stands still", urgency="high")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("no JSON", ""),
        ('{"title": "x", "urgency": "secret"}', "/urgency"),
        ('{"title": "x", "urgency": "low", "tags": ["a", 1]}', "/tags/1"),
        ('{"title": "secret secret secret secret", "urgency": "low"}', "/title"),
    ],
)
def test_tells_where_an_answer_is_not_of_the_model(text: str, place: str) -> None:
    with pytest.raises(Unparsable) as failed:
        _result(text).parsed(Ticket)

    assert failed.value.place == place
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (_result(None, status="blocked"), "moderation withheld"),
        (_result("", "abstained"), "finish_reason is abstained"),
        (_result("", "tool_calls"), "finish_reason is tool_calls"),
        (_result("{}").model_copy(update={"answer": None, "kind": "evaluation"}), "kind evaluation"),
        (JobCancelled(job_id=_JOB, tenant="shop", reason="changed my mind"), "cancelled: changed my mind"),
    ],
)
def test_tells_why_there_is_no_answer(receipt: Result | JobCancelled, words: str) -> None:
    with pytest.raises(NoAnswer, match=words):
        receipt.parsed(Ticket)


def test_tells_why_a_job_failed() -> None:
    fields: dict[str, Any] = {
        "job_id": _JOB, "category": "permanent", "reason": "too long", "stage": "generate", "topic": "t", "size": 1,
        "original": "", "encoding": "utf-8",
    }  # fmt: skip
    with pytest.raises(Unparsable, match="too long") as failed:
        DeadLetter(**fields, failure="truncated", place="/tags").parsed(Ticket)
    assert (failed.value.failure, failed.value.place) == ("truncated", "/tags")
    with pytest.raises(NoAnswer, match=r"failed \(permanent\): too long"):
        DeadLetter(**fields).parsed(Ticket)
