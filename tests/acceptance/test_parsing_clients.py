"""Parsed values by foreign clients, unmodified, of a real model: whatever it says, a value has the caller's type."""

import json
import re
from collections.abc import Iterator

import pytest
from tests.acceptance.conftest import Shell, running
from tests.services.eventually import eventually
from tests.services.models import SMOLLM2, smollm2
from tests.services.node import Node
from tests.services.python_clients import PythonClients

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running `headrace up` with SmolLM2."""
    folder = tmp_path_factory.mktemp("parsing")
    models = folder / ".headrace" / "models"
    models.mkdir(parents=True)
    (models / SMOLLM2).symlink_to(smollm2("int8", tmp_path_factory) / "models" / SMOLLM2)
    with running(folder, "--gateway-port", "0", HEADRACE_MODEL=SMOLLM2) as shell:
        yield shell


@pytest.fixture
def env(up: Shell) -> dict[str, str]:
    """What the scripts read: the address that `up` prints, and the key that it made."""
    [url] = eventually(lambda: re.findall(r"OPENAI_BASE_URL=(\S+)", (up.folder / "up.log").read_text("utf-8")))
    key = (up.folder / ".headrace" / "api-key").read_text(encoding="utf-8").strip()
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "MODEL": SMOLLM2}


PYTHON = """
import json, os
from typing import Literal
import instructor
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

class Ticket(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a small model adds fields without end where it may
    title: str = Field(max_length=20)
    urgency: Literal["low", "high"]

model, question = os.environ["MODEL"], "The mill's wheel is stuck. Make a ticket."
told = {}
for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    client = instructor.from_openai(OpenAI(), mode=mode)
    said = [{"role": "user", "content": question}]
    told[mode.name] = client.chat.completions.create(model=model, response_model=Ticket, messages=said)
for asks, output in ((OpenAIChatModel, NativeOutput(Ticket)), (OpenAIResponsesModel, Ticket)):
    told[asks.__name__] = Agent(asks(model), output_type=output).run_sync(question).output
for method in ("json_schema", "function_calling"):
    told[method] = ChatOpenAI(model=model).with_structured_output(Ticket, method=method).invoke(question)
assert all(isinstance(each, Ticket) for each in told.values()), told
print(json.dumps({name: each.model_dump() for name, each in told.items()}))
"""


JAVASCRIPT = """
import OpenAI from "openai";
import { generateObject } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const Ticket = z.object({ title: z.string().max(20), urgency: z.enum(["low", "high"]) });
const model = process.env.MODEL, prompt = "The mill's wheel is stuck. Make a ticket.";
const parsed = await new OpenAI().chat.completions.parse({
  model, messages: [{ role: "user", content: prompt }], response_format: zodResponseFormat(Ticket, "ticket"),
});
const headrace = createOpenAICompatible({
  name: "headrace", baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const { object } = await generateObject({ model: headrace(model), schema: Ticket, prompt });
console.log(JSON.stringify({ openai: parsed.choices[0].message.parsed, ai: object }));
"""


def test_clients_parse_what_a_real_model_says(env: dict[str, str], python_clients: PythonClients, node: Node) -> None:
    told = json.loads(python_clients.run(PYTHON, env=env)) | json.loads(node.run(JAVASCRIPT, env=env))
    assert len(told) == 8
    for name, ticket in told.items():
        assert ticket.keys() == {"title", "urgency"}, name
        assert len(ticket["title"]) <= 20, name
        assert ticket["urgency"] in ("low", "high"), name
