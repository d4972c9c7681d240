"""Calls of tools by real models: held to the grammar of a call, and checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace_schemas import GenerationJob
from headrace_schemas.tool import Tool
from headrace_workers.models.convert import convert
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.structured.tool_calls import with_tools

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10"
WEATHER = Tool(
    name="get_weather",
    description="Returns the weather of a city now.",
    parameters={
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
)
LAMP = Tool(
    name="set_lamp",
    description="Switches the lamp on or off.",
    parameters={"properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False},
)


def ask(generator: CTranslate2Generator, prompt: str, *choices: Any, **sampling: Any) -> list[Completion]:
    """Answer one prompt under each of these choices, in one call of the model."""
    jobs = [
        GenerationJob(
            model="m", prompt=prompt, tools=(WEATHER, LAMP), tool_choice=choice,
            sampling={"temperature": 0.0, "max_tokens": 80, **sampling},
        )
        for choice in choices
    ]  # fmt: skip
    asked = [
        Request(job.conversation, job.sampling, output=job.output, tools=job.tools, offer=job.offer) for job in jobs
    ]
    completions = []
    for job, answer in zip(jobs, generator.generate(asked), strict=True):
        assert isinstance(answer, Completion), answer
        checked = with_tools(answer, job, JOB_ID)
        assert isinstance(checked, Completion), (checked, answer.text)
        completions.append(checked)
    return completions


@pytest.mark.slow
def test_a_small_model_that_knows_no_tools_calls_one(smollm2_home: Path) -> None:
    """Whatever it would say: where it must call, its answer is a valid call, of the named tool where one is named."""
    generator = CTranslate2Generator.load(smollm2_home / "models" / "smollm2-135m-instruct")
    either, lamp, free = ask(generator, "Is it warm in Rome?", "required", {"name": "set_lamp"}, "none")
    assert either.tool_calls[0].name in ("get_weather", "set_lamp")
    assert either.finish_reason == "tool_calls"
    assert lamp.tool_calls[0].name == "set_lamp"
    assert isinstance(json.loads(lamp.tool_calls[0].arguments)["on"], bool)
    assert not free.tool_calls
    (drawn,) = ask(generator, "Is it warm in Rome?", "required", temperature=1.0, seed=7)
    assert drawn.tool_calls


@pytest.mark.slow
def test_qwen_calls_what_its_template_offers(qwen_gguf: Path, tmp_path: Path) -> None:
    convert(str(qwen_gguf), "qwen", tmp_path, "int8")
    generator = CTranslate2Generator.load(tmp_path / "models" / "qwen")
    asked = "What is the weather in Oslo now, in celsius?"
    forced, auto, free = ask(generator, asked, {"name": "get_weather"}, "auto", "none")
    (call,) = forced.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo", "unit": "celsius"})
    assert auto.tool_calls or auto.text
    assert "<tool_call>" not in auto.text
    assert not free.tool_calls
