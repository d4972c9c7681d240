import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.llama_server import llama_server
from tests.services.provider import Provider, Reply, providing
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, remote

from headrace_schemas import GenerationJob, Message, Sampling
from headrace_schemas.decision import Choice, ChoiceOption, Predicate
from headrace_schemas.errors import Unparsable
from headrace_schemas.tool import NamedTool, Tool, ToolCall, ToolChoice
from headrace_workers.features.decisions import deciding
from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, decide_all
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.structured.tool_calls import with_tools

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f10"
WEATHER = Tool(
    name="get_weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Tool(name="clock")
RECURSIVE = Tool(name="tree", parameters={"type": "object", "properties": {"left": {"$ref": "#"}}})
ASKED = (Message(role="system", content="Be brief."), Message(role="user", content="Is it warm in Rome?"))
ABOUT = (
    *ASKED,
    Message(role="assistant", content="I look.", tool_calls=(ToolCall(id="a", name="clock", arguments='{"x": 1}'),)),
    Message(role="tool", tool_call_id="a", content="12:00"),
)


def calls(_provider: Provider, reply: Reply) -> None:
    reply.start()
    reply.text("I look.")
    reply.call("call_7", "get_weather", '{"ci', 'ty": "Ro', 'me"}')
    reply.call("call_8", "clock", "{}", index=1)
    reply.end("tool_calls")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing(calls) as found:
        yield found


def ask(messages: tuple[Message, ...], choice: ToolChoice | None, *tools: Tool) -> Request:
    job = GenerationJob(model="far", messages=messages, tools=tools, tool_choice=choice if tools else None)
    return Request(messages, Sampling(max_tokens=200), tools=tools, offer=job.offer)


def body(tmp_path: Path, engine: str, provider: Provider, request: Request, **entries: Any) -> dict[str, Any]:
    remote(tmp_path, engine, provider.url, **entries).generate([request])
    return provider.heard[-1].body


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
def test_a_call_is_read_from_a_stream(tmp_path: Path, engine: str, provider: Provider) -> None:
    request = ask(ASKED, "auto", WEATHER, CLOCK)
    (completion,) = remote(tmp_path, engine, provider.url).generate([request])
    assert isinstance(completion, Completion)
    assert (completion.text, completion.finish_reason) == ("I look.", "tool_calls")
    assert [(call.name, call.arguments) for call in completion.tool_calls] == [
        ("get_weather", '{"city": "Rome"}'), ("clock", "{}"),
    ]  # fmt: skip
    job = GenerationJob(model="far", messages=ASKED, tools=request.tools)
    checked = with_tools(completion, job, JOB_ID)
    assert isinstance(checked, Completion)
    assert checked.tool_calls[0].id == f"call_{JOB_ID.replace('-', '')}"


def test_calls_that_share_an_index_stay_apart(tmp_path: Path) -> None:
    def twice(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.call("a", "clock", "{}")
        reply.call("b", "get_weather", '{"city": "Rome"}')
        reply.end("stop")

    with providing(twice) as provider:
        (completion,) = remote(tmp_path, "openai", provider.url).generate([ask(ASKED, "auto", WEATHER, CLOCK)])
    assert isinstance(completion, Completion)
    assert [(call.name, call.arguments) for call in completion.tool_calls] == [
        ("clock", "{}"), ("get_weather", '{"city": "Rome"}'),
    ]  # fmt: skip


def test_no_more_calls_are_kept_than_tell_that_they_are_too_many(tmp_path: Path) -> None:
    """Empty calls have no length that would end the answer."""

    def many(_provider: Provider, reply: Reply) -> None:
        reply.start()
        for number in range(1_000):
            reply.call("", "", "", index=number)
        reply.end("tool_calls")

    with providing(many) as provider:
        (completion,) = remote(tmp_path, "openai", provider.url).generate([ask(ASKED, "auto", CLOCK)])
    assert isinstance(completion, Completion)
    assert len(completion.tool_calls) == 129


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
def test_endless_arguments_are_cut(tmp_path: Path, engine: str) -> None:
    def endless(provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.call("a", "clock", *['{"x": "' + "y" * 10_000] * 30)
        provider.over.wait(60)

    with providing(endless) as provider:
        (completion,) = remote(tmp_path, engine, provider.url).generate([ask(ASKED, "auto", CLOCK)])
    assert isinstance(completion, Completion)
    assert completion.finish_reason == "length"
    assert len(completion.tool_calls[0].arguments) < 220_000


@pytest.mark.parametrize(
    ("choice", "names", "asked"),
    [
        (None, ["get_weather", "clock"], "auto"), ("auto", ["get_weather", "clock"], "auto"),
        ("required", ["get_weather", "clock"], "required"), (NamedTool(name="clock"), ["clock"], "required"),
    ],
)  # fmt: skip
def test_openai_is_asked_in_its_own_words(
    tmp_path: Path, provider: Provider, choice: ToolChoice | None, names: list[str], asked: str
) -> None:
    """A named tool is the only one that is offered, since some servers take no name as `tool_choice`."""
    sent = body(tmp_path, "openai", provider, ask(ABOUT, choice, WEATHER, CLOCK))
    assert [tool["function"]["name"] for tool in sent["tools"]] == names
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == (asked, len(names) > 1)
    call = {"id": "a", "type": "function", "function": {"name": "clock", "arguments": '{"x": 1}'}}
    assert sent["messages"][2:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call],
        },
        {"role": "tool", "content": "12:00", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("choice", "names", "asked"),
    [
        (None, ["get_weather", "clock"], {"type": "auto", "disable_parallel_tool_use": False}),
        ("required", ["get_weather", "clock"], {"type": "any", "disable_parallel_tool_use": False}),
        (NamedTool(name="clock"), ["clock"], {"type": "any", "disable_parallel_tool_use": True}),
        ("none", ["get_weather", "clock"], {"type": "none"}),
    ],
)
def test_anthropic_is_asked_in_its_own_words(
    tmp_path: Path, provider: Provider, choice: ToolChoice | None, names: list[str], asked: dict[str, Any]
) -> None:
    sent = body(tmp_path, "anthropic", provider, ask(ABOUT, choice, WEATHER, CLOCK))
    assert [tool["name"] for tool in sent["tools"]] == names
    assert all(tool["input_schema"]["type"] == "object" for tool in sent["tools"])
    assert sent["tool_choice"] == asked
    assert sent["system"] == "Be brief."
    used = {"type": "tool_use", "id": "a", "name": "clock", "input": {"x": 1}}
    assert sent["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, used]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "12:00"}]},
    ]


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
@pytest.mark.parametrize(("lacks", "tools"), [(["tools"], (WEATHER,)), ([], ())])
def test_tools_are_told_in_words_where_they_cannot_be_sent(
    tmp_path: Path, engine: str, provider: Provider, lacks: list[str], tools: tuple[Tool, ...]
) -> None:
    if not lacks and engine == "openai":
        pytest.skip("OpenAI takes turns about calls without tools")
    sent = body(tmp_path, engine, provider, ask(ABOUT, "required", *tools), lacks=lacks)
    assert not sent.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    system = sent["system"] if engine == "anthropic" else sent["messages"].pop(0)["content"]
    assert system.startswith("Be brief.")
    assert ('"name": "get_weather"' in system) is bool(tools)
    assert sent["messages"][1:] == [
        {"role": "assistant", "content": 'I look.\n{"name": "clock", "arguments": {"x": 1}}'},
        {"role": "user", "content": "The tool clock returned:\n12:00"},
    ]


@pytest.mark.parametrize("engine", REMOTE_ENGINES)
def test_broken_arguments_of_before_are_sent_on(tmp_path: Path, engine: str, provider: Provider) -> None:
    broken = Message(role="assistant", tool_calls=(ToolCall(id="a", name="clock", arguments='{"x'),))
    sent = body(tmp_path, engine, provider, ask((*ASKED, broken, ABOUT[-1]), "auto", CLOCK))
    assert json.dumps('{"x')[1:-1] in json.dumps(sent["messages"])


@pytest.mark.parametrize(
    ("choice", "tools", "names"),
    [
        (None, (WEATHER,), None), ("none", (WEATHER,), None), ("required", (RECURSIVE,), None),
        ("required", (WEATHER, CLOCK), ["get_weather", "clock"]),
        (NamedTool(name="clock"), (WEATHER, CLOCK), ["clock"]),
    ],
)  # fmt: skip
def test_a_call_that_is_asked_for_in_words_has_a_format(
    tmp_path: Path, provider: Provider, choice: ToolChoice | None, tools: tuple[Tool, ...], names: list[str] | None
) -> None:
    sent = body(tmp_path, "openai", provider, ask(ASKED, choice, *tools), lacks=["tools"], formats=["json_schema"])
    if names is None:
        assert "response_format" not in sent
        return
    schema = sent["response_format"]["json_schema"]["schema"]
    found = [item["properties"]["name"]["enum"] for item in schema.get("anyOf", [schema])]
    assert found == [[name] for name in names]


@pytest.fixture(scope="module")
def llama(smollm2_gguf: Path) -> Iterator[str]:
    """The address of llama.cpp's server with SmolLM2."""
    pytest.importorskip("xllamacpp")
    with llama_server(smollm2_gguf) as url:
        yield url


@pytest.mark.integration
@pytest.mark.parametrize(
    "choice", [pytest.param("required", marks=pytest.mark.slow), NamedTool(name="set_lamp")], ids=str
)
def test_llama_cpps_server_calls_a_tool(tmp_path: Path, llama: str, choice: ToolChoice) -> None:
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    }
    lamp = Tool(name="set_lamp", description="Switches the lamp.", parameters=schema)
    job = GenerationJob(model="far", prompt="Switch the lamp on.", tools=(lamp,), tool_choice=choice)
    limits = {"context_length": 2048, "first_token": 120.0, "total": 240.0, "idle": 120.0}
    found = {}
    for lacks in ((), ("tools",)):
        home = tmp_path / f"home{len(lacks)}"
        far = remote(home, "openai", llama, lacks=list(lacks), formats=["json_schema"], **limits)
        (answer,) = far.generate([ask(job.conversation, choice, lamp)])
        assert isinstance(answer, Completion), answer
        found[lacks] = with_tools(answer, job, JOB_ID)
    checked = found["tools",]
    assert isinstance(checked, Completion), checked
    assert checked.tool_calls[0].name == "set_lamp"
    assert isinstance(json.loads(checked.tool_calls[0].arguments)["on"], bool)
    assert isinstance(found[()], Unparsable) or found[()].tool_calls


@pytest.mark.integration
def test_llama_cpps_server_tells_how_likely_each_answer_was(
    tmp_path: Path, llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "MIN_MASS", 0.0)  # so small a model gives the labels next to nothing
    limits = {"context_length": 2048, "first_token": 120.0, "total": 240.0, "idle": 120.0, "logprobs": True}
    far = remote(tmp_path, "openai", llama, formats=["json_schema"], **limits)
    colours = tuple(ChoiceOption(value=colour) for colour in ("red", "blue", "green"))
    questions = (
        Predicate(type="predicate", instructions="The writer likes the sea."),
        Choice(type="choice", instructions="Which colour has the sea?", choices=colours),
    )
    asked = DecisionRequest((Message(role="user", content="I love the blue sea."),), questions)
    (decided,) = decide_all(far, [asked])
    assert isinstance(decided, Decided), decided
    for answer in decided.answers:
        assert answer is not None
        assert not answer.stated
        assert answer.mass
        assert sum(answer.probabilities) == pytest.approx(1)
