"""Loops of agents, as scripts for the clients' environments: each calls a tool, reads its result, and ends.

Each prints an object by framework: what the loop came to, and the arguments of its calls of the tool; or its error.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from tests.services.node import Node
from tests.services.python_clients import PythonClients

LOOPS: Final = (
    "langgraph", "openai-agents", "openai-agents by chats", "pydantic-ai", "pydantic-ai by responses", "autogen",
    "dspy", "ai",
)  # fmt: skip


def run_loops(python_clients: PythonClients, node: Node, env: Mapping[str, str]) -> dict[str, Any]:
    """Run all loops, and return what each came to."""
    return json.loads(python_clients.run(PYTHON, env=env, timeout=1_200)) | json.loads(node.run(JAVASCRIPT, env=env))


PYTHON: Final = """
import asyncio, json, os, traceback
from pydantic import BaseModel, ConfigDict

MODEL, BASE, KEY = os.environ["MODEL"], os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
QUESTION = "How warm is it in Bern now?"
MOST = 200  # tokens of an answer: a small model may write without end

class Report(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str
    degrees: int

asked = []

def weather(city: str) -> str:
    "Returns the weather of a city now."
    asked.append(city)
    return f"{city}: 21 degrees, dry"

def langgraph():
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent
    agent = create_react_agent(ChatOpenAI(model=MODEL, max_tokens=MOST), [weather], response_format=Report)
    return agent.invoke({"messages": [("user", QUESTION)]}, {"recursion_limit": 8})["structured_response"]

def openai_agents(by_chats):
    import agents
    agents.set_tracing_disabled(True)
    agents.set_default_openai_api("chat_completions" if by_chats else "responses")
    agent = agents.Agent(
        name="reporter", instructions="You report the weather.", model=MODEL, output_type=Report,
        tools=[agents.function_tool(weather)],
        model_settings=agents.ModelSettings(tool_choice="required", max_tokens=MOST),
    )
    return agents.Runner.run_sync(agent, QUESTION, max_turns=6).final_output

def pydantic_ai(by_responses):
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    if by_responses:
        agent = Agent(OpenAIResponsesModel(MODEL), tools=[weather], output_type=Report)
    else:
        agent = Agent(OpenAIChatModel(MODEL), tools=[weather], output_type=NativeOutput(Report))
    return agent.run_sync(QUESTION, model_settings={"max_tokens": MOST}).output

def autogen():
    from autogen_agentchat.agents import AssistantAgent
    from autogen_core.tools import FunctionTool
    from autogen_ext.models.openai import OpenAIChatCompletionClient
    info = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown",
            "structured_output": True}
    client = OpenAIChatCompletionClient(model=MODEL, model_info=info, max_tokens=MOST)
    tool = FunctionTool(weather, description="Returns the weather of a city now.", strict=True)
    agent = AssistantAgent("reporter", client, tools=[tool], output_content_type=Report, max_tool_iterations=3)
    return asyncio.run(agent.run(task=QUESTION)).messages[-1].content

def dspy():
    import dspy
    lm = dspy.LM(f"openai/{MODEL}", api_base=BASE, api_key=KEY, engine="lm15", cache=False, max_tokens=MOST)
    with dspy.context(lm=lm):
        found = dspy.ReAct("question -> city: str, degrees: int", tools=[weather], max_iters=2)(question=QUESTION)
    return Report(city=found.city, degrees=found.degrees)

told = {}
for name, loop, arguments in (
    ("langgraph", langgraph, ()), ("openai-agents", openai_agents, (False,)),
    ("openai-agents by chats", openai_agents, (True,)), ("pydantic-ai", pydantic_ai, (False,)),
    ("pydantic-ai by responses", pydantic_ai, (True,)), ("autogen", autogen, ()), ("dspy", dspy, ()),
):
    asked.clear()
    try:
        found = loop(*arguments)
        assert isinstance(found, Report), found
        told[name] = {"report": found.model_dump(), "asked": list(asked)}
    except Exception as error:
        told[name] = {"error": type(error).__name__, "why": traceback.format_exc()[-2000:], "asked": list(asked)}
print(json.dumps(told))
"""


JAVASCRIPT: Final = """
import { generateText, Output, stepCountIs, tool } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const headrace = createOpenAICompatible({
  name: "headrace", baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const asked = [];
const weather = tool({
  description: "Returns the weather of a city now.", inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => { asked.push(city); return `${city}: 21 degrees, dry`; },
});
const schema = z.object({ city: z.string(), degrees: z.number().int() });
const told = await generateText({
  model: headrace(process.env.MODEL), prompt: "How warm is it in Bern now?", maxOutputTokens: 200,
  tools: { weather }, output: Output.object({ schema }), stopWhen: stepCountIs(6),
}).then(({ output }) => ({ report: output, asked }), (error) => ({ error: error.name, why: String(error), asked }));
console.log(JSON.stringify({ ai: told }));
"""
