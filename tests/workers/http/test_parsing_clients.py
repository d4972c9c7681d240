"""Parsed values by the clients that people have, unmodified, of a model that answers as a script says."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from tests.services.node import Node
from tests.services.python_clients import PythonClients
from tests.workers.http.openai_client import openai_of
from tests.workers.http.scripted import TICKET, jobs_about, scripted
from tests.workers.http.served import IDLE, Gateway


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> Iterator[str]:
    with scripted(gateway) as text:
        yield text


@pytest.fixture
def env(gateway: Gateway, key: str) -> Mapping[str, str]:
    return {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": key, "MODEL": IDLE}


@pytest.fixture(scope="module")
def client(gateway: Gateway, key: str) -> Iterator[openai.OpenAI]:
    with openai_of(gateway, key) as found:
        yield found


@contextmanager
def asked_once(gateway: Gateway, questions: int) -> Iterator[None]:
    """Check that a client asks each question that ends as `unparsable` or `truncated` only once."""
    before = [jobs_about(gateway, name) for name in ("unparsable", "truncated")]
    yield
    after = [jobs_about(gateway, name) for name in ("unparsable", "truncated")]
    assert [now - then for then, now in zip(before, after, strict=True)] == [questions, questions]


class Ticket(BaseModel):
    title: str
    urgency: int


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chats_are_parsed(client: openai.OpenAI):
    (choice,) = client.chat.completions.parse(model=IDLE, messages=said("Go."), response_format=Ticket).choices
    assert choice.message.parsed == Ticket(**TICKET)
    with client.chat.completions.stream(model=IDLE, messages=said("Go."), response_format=Ticket) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Ticket(**TICKET)


def test_calls_of_chats_are_parsed(client: openai.OpenAI):
    tools: list[Any] = [openai.pydantic_function_tool(Ticket)]
    asked: dict[str, Any] = {"model": IDLE, "messages": said("Go."), "tools": tools, "tool_choice": "required"}
    (choice,) = client.chat.completions.parse(**asked).choices
    with client.chat.completions.stream(**asked) as stream:
        (streamed,) = stream.get_final_completion().choices
    for parsed_choice in (choice, streamed):
        assert parsed_choice.finish_reason == "tool_calls"
        (call,) = parsed_choice.message.tool_calls or []
        assert call.function.parsed_arguments == Ticket(**TICKET)
    for parsed_choice in (choice, streamed):
        (call,) = parsed_choice.message.tool_calls or []
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "filed"}
        turns: Any = [*said("Go."), parsed_choice.message, result]
        after = client.chat.completions.parse(model=IDLE, messages=turns, tools=tools)
        assert after.choices[0].message.content == "The last turn was: filed"


def test_responses_are_parsed(client: openai.OpenAI):
    response = client.responses.parse(model=IDLE, input="Go.", text_format=Ticket)
    assert response.output_parsed == Ticket(**TICKET)
    with client.responses.stream(model=IDLE, input="Go.", text_format=Ticket) as stream:
        assert stream.get_final_response().output_parsed == Ticket(**TICKET)


def test_calls_of_responses_are_parsed(client: openai.OpenAI):
    tool: Any = {"type": "function", "name": "weather", "strict": True, "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    }}  # fmt: skip
    asked: dict[str, Any] = {"model": IDLE, "input": "Go.", "tools": [tool], "tool_choice": "required"}
    first = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        (streamed,) = stream.get_final_response().output
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Bern"})
    assert (streamed.type, streamed.arguments) == ("function_call", call.arguments)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "mild"}
    after = client.responses.create(model=IDLE, previous_response_id=first.id, input=[result], tools=[tool])
    assert after.output_text == "The last turn was: mild"
    whole = client.responses.create(model=IDLE, input=[*said("Go."), call.to_dict(), result], tools=[tool])
    assert whole.output_text == "The last turn was: mild"


def test_a_failure_is_never_a_value(client: openai.OpenAI):
    with pytest.raises(openai.LengthFinishReasonError) as length:
        client.chat.completions.parse(model=IDLE, messages=said("truncated"), response_format=Ticket)
    completion = length.value.completion
    assert (completion.created, completion.usage.prompt_tokens, completion.usage.completion_tokens) == (
        1795651200,
        7,
        3,
    )
    with (
        pytest.raises(openai.LengthFinishReasonError),
        client.chat.completions.stream(model=IDLE, messages=said("truncated"), response_format=Ticket) as stream,
    ):
        stream.get_final_completion()
    cut = client.responses.parse(model=IDLE, input="truncated", text_format=Ticket)
    assert (cut.output_parsed, cut.status, cut.incomplete_details.reason) == (None, "incomplete", "max_output_tokens")
    assert (cut.usage.input_tokens, cut.usage.output_tokens) == (7, 3)
    assert client.responses.retrieve(cut.id).status == "incomplete"
    with client.responses.stream(model=IDLE, input="truncated", text_format=Ticket) as stream:
        assert [event.type for event in stream][-1] == "response.incomplete"
    for failure in ("unparsable", "unsatisfiable"):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.chat.completions.parse(model=IDLE, messages=said(failure), response_format=Ticket)
        assert caught.value.code == failure
        with pytest.raises(openai.UnprocessableEntityError):
            client.responses.parse(model=IDLE, input=failure, text_format=Ticket)
    body: Any = caught.value.body
    assert body["headrace"].keys() == {"job_id"}


INSTRUCTOR = """
import json, os
import instructor
from openai import OpenAI
from pydantic import BaseModel

class Ticket(BaseModel):
    title: str
    urgency: int

told = {}
for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    client = instructor.from_openai(OpenAI(), mode=mode)
    def ask(text):
        try:
            return client.chat.completions.create(
                model=os.environ["MODEL"], response_model=Ticket, messages=[{"role": "user", "content": text}],
            ).model_dump()
        except Exception as error:
            return type(error).__name__
    told[mode.name] = [ask("Go."), ask("truncated"), ask("unparsable")]
print(json.dumps(told))
"""


def test_instructor(python_clients: PythonClients, env: Mapping[str, str], gateway: Gateway):
    """Its modes JSON_SCHEMA and TOOLS give a value, or an error of its own, and ask once."""
    with asked_once(gateway, 2):
        told = json.loads(python_clients.run(INSTRUCTOR, env=env))
    each = [TICKET, "IncompleteOutputException", "InstructorRetryException"]
    assert told == {"JSON_SCHEMA": each, "TOOLS": each}


PYDANTIC_AI = """
import json, os
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

class Ticket(BaseModel):
    title: str
    urgency: int

told = {}
for model in (OpenAIChatModel, OpenAIResponsesModel):
    for name, output in (("native", NativeOutput(Ticket)), ("tool", Ticket)):
        agent = Agent(model(os.environ["MODEL"]), output_type=output)
        def ask(text):
            try:
                return agent.run_sync(text).output.model_dump()
            except Exception as error:
                return type(error).__name__
        told[model.__name__ + " " + name] = [ask("Go."), ask("truncated"), ask("unparsable")]
print(json.dumps(told))
"""


@pytest.mark.slow  # `make test` runs its agents
def test_pydantic_ai(python_clients: PythonClients, env: Mapping[str, str], gateway: Gateway):
    """Its `NativeOutput` and its default, a tool, give a value, or an error of its own; by chats and by responses."""
    with asked_once(gateway, 4):
        told = json.loads(python_clients.run(PYDANTIC_AI, env=env))
    each = [TICKET, "UnexpectedModelBehavior", "ModelHTTPError"]
    names = [f"OpenAI{model}Model {how}" for model in ("Chat", "Responses") for how in ("native", "tool")]
    assert told == dict.fromkeys(names, each)


LANGCHAIN = """
import json, os
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

class Ticket(BaseModel):
    title: str
    urgency: int

told = {}
for responses in (False, True):
    model = ChatOpenAI(model=os.environ["MODEL"], use_responses_api=responses)
    for method in ("json_schema", "function_calling"):
        chain = model.with_structured_output(Ticket, method=method)
        def ask(text):
            try:
                found = chain.invoke(text)
                return found and found.model_dump()
            except Exception as error:
                return type(error).__name__
        told[method + " " + str(responses)] = [ask("Go."), ask("truncated"), ask("unparsable")]
print(json.dumps(told))
"""


@pytest.mark.slow  # `make test` runs its agents
def test_langchain(python_clients: PythonClients, env: Mapping[str, str], gateway: Gateway):
    """`with_structured_output` gives a value, or an error of the openai client, by both of its methods."""
    with asked_once(gateway, 4):
        told = json.loads(python_clients.run(LANGCHAIN, env=env))
    cut = {
        "json_schema False": "LengthFinishReasonError", "json_schema True": "ValueError",
        "function_calling False": None, "function_calling True": None,
    }  # fmt: skip
    assert told == {how: [TICKET, text, "UnprocessableEntityError"] for how, text in cut.items()}


ZOD = """
import OpenAI from "openai";
import { zodFunction, zodResponsesFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI();
const model = process.env.MODEL;
const Ticket = z.object({ title: z.string(), urgency: z.number().int() });
const told = {};

const chat = (content, more) => client.chat.completions.parse({
  model, messages: [{ role: "user", content }], ...more,
});
const format = { response_format: zodResponseFormat(Ticket, "ticket") };
const tools = { tools: [zodFunction({ name: "file", parameters: Ticket })], tool_choice: "required" };
const text = { text: { format: zodTextFormat(Ticket, "ticket") } };
const called = { tools: [zodResponsesFunction({ name: "file", parameters: Ticket })], tool_choice: "required" };
const respond = (input, more) => client.responses.parse({ model, input, ...more });
const failed = (error) => error.constructor.name;

told.chat = [
  (await chat("Go.", format)).choices[0].message.parsed,
  await chat("truncated", format).catch(failed), await chat("unparsable", format).catch(failed),
];
told.tool = [
  (await chat("Go.", tools)).choices[0].message.tool_calls[0].function.parsed_arguments,
  await chat("truncated", tools).catch(failed), await chat("unparsable", tools).catch(failed),
];
const cut = await respond("truncated", text);
told.response = [
  (await respond("Go.", text)).output_parsed, [cut.output_parsed, cut.incomplete_details.reason],
  await respond("unparsable", text).catch(failed),
];
told.called = (await respond("Go.", called)).output[0].parsed_arguments;
const streamed = client.chat.completions.stream({ model, messages: [{ role: "user", content: "Go." }], ...format });
told.streamed = (await streamed.finalChatCompletion()).choices[0].message.parsed;
console.log(JSON.stringify(told));
"""


def test_openai_in_javascript(node: Node, env: Mapping[str, str], gateway: Gateway):
    with asked_once(gateway, 3):
        told = json.loads(node.run(ZOD, env=env))
    each = [TICKET, "LengthFinishReasonError", "UnprocessableEntityError"]
    assert told == {
        "chat": each, "tool": each, "response": [TICKET, [None, "max_output_tokens"], each[2]], "called": TICKET,
        "streamed": TICKET,
    }  # fmt: skip


VERCEL = """
import { generateObject, generateText, Output, stepCountIs, tool } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const headrace = createOpenAICompatible({
  name: "headrace", baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const model = headrace(process.env.MODEL);
const schema = z.object({ title: z.string(), urgency: z.number().int() });
const failed = (error) => [error.name, error.finishReason ?? error.statusCode];
const ask = (prompt) => generateObject({ model, schema, prompt }).then((each) => each.object, failed);
const told = { object: [await ask("Go."), await ask("truncated"), await ask("unparsable")] };
told.output = (await generateText({ model, prompt: "Go.", output: Output.object({ schema }) })).output;
const weather = tool({
  description: "Look the weather up.", inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => city,
});
told.steps = (await generateText({
  model, prompt: "Go.", tools: { weather }, stopWhen: stepCountIs(2), prepareStep: ({ stepNumber }) =>
    ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
})).text;
console.log(JSON.stringify(told));
"""


@pytest.mark.slow  # `make test` runs its agents
def test_the_ai_sdk(node: Node, env: Mapping[str, str], gateway: Gateway):
    with asked_once(gateway, 1):
        told = json.loads(node.run(VERCEL, env=env))
    failures = [["AI_NoObjectGeneratedError", "length"], ["AI_APICallError", 422]]
    assert told == {
        "object": [TICKET, *failures], "output": TICKET, "steps": "The last turn was: Bern",
    }  # fmt: skip
