"""POST /v1/responses: the job that a response asks for, and its messages."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_schemas import GenerationJob, Message, Result
from headrace_schemas.callback import Callback
from headrace_workers.features.generation.openai.formats import Asked, response_format
from headrace_workers.features.generation.openai.generation import generation_job, spoken
from headrace_workers.features.generation.openai.request import (
    OF_GENERATION,
    RESPONSE_PARTS,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    flag,
    has_variables,
    role_of,
    text_of,
    wants_stream,
)
from headrace_workers.features.generation.openai.response_body import ended_body, events
from headrace_workers.features.generation.openai.tools import NAMES, knowledge_of, response_tools
from headrace_workers.features.generation.openai.tools import TOOL as SEARCH
from headrace_workers.http.openai import End, Parameters, answered, failure_told, missing, unsupported, wrong

REFERENCE: Final = "item_reference"
_MOST_REFERENCES: Final = 256  # each is looked up, and may be as long as an answer
_REFERENCE_ITEM: Final = Parameters(frozenset({"type", "id"}))

_ITEM: Final = Parameters(
    # id and status come with an item of an earlier response that is sent back.
    works=frozenset({"type", "role", "content", "id", "status"}),
    unmeant={"phase": ()},
)
_CALL: Final = Parameters(
    works=frozenset({"type", "call_id", "name", "arguments", "id", "status"}),
    refused={"async": (False,)},
    unmeant={"caller": (), "namespace": ()},
)
_RESULT: Final = Parameters(
    works=frozenset({"type", "call_id", "output", "id", "status"}),
    refused={"name": ()},
    unmeant={"caller": (), "namespace": ()},
)
_PROMPT: Final = Parameters(works=frozenset({"id", "version", "variables"}))
_SEARCHED: Final = "file_search_call"  # of an earlier response: passages are looked up anew
PARAMETERS: Final = Parameters(
    works=frozenset(
        {
            "model", "prompt", "input", "instructions", "previous_response_id", "background", "store", "temperature",
            "top_p", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "service_tier", "metadata",
            "safety_identifier", "user", "stream", "stream_options", "text", WISHES,
        }
    ),
    refused={
        "conversation": (),
        "include": ([], ["reasoning.encrypted_content"]),
        "max_tool_calls": (),
        "moderation": (),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
        "background_options": ({}, {"completion_window": "soonest"}),
    },
    unmeant={
        "access_programs": (),
        "context_management": ([],),
        "image": (),
        "prompt_cache_key": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": (),
        "reasoning": ({}, {"effort": "none"}),
    },
    options=OF_GENERATION,
)  # fmt: skip


def references(asked: Body) -> dict[int, str]:
    """Return the ids of the items that the input refers to, by their places.

    Raise Refused for an invalid id, or too many.
    """
    given = asked.get("input")
    if not isinstance(given, list | tuple):
        return {}
    found = {
        index: _id(item, f"input[{index}]")
        for index, item in enumerate(given)
        if isinstance(item, Mapping) and item.get("type") == REFERENCE
    }
    if len(found) > _MOST_REFERENCES:
        raise wrong(
            "input",
            f"at most {_MOST_REFERENCES} items may be references, not {len(found)}: send the others as they are",
        )
    return found


def with_items(body: Body, items: Mapping[int, Any]) -> Body:
    """Return the body with these items at their places in the input."""
    if not items:
        return body
    return {**body, "input": [items.get(index, item) for index, item in enumerate(body["input"])]}


def _id(item: Mapping[str, Any], param: str) -> str:
    id = _REFERENCE_ITEM.given(item, param).get("id")
    if id is None:
        raise missing(f"{param}.id")
    if not isinstance(id, str):
        raise wrong(f"{param}.id", "must be text")
    return id


def messages_of(asked: Body, earlier: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the instructions, the conversation before, and the input, as messages in this order.

    Refused names what is no message of text, and no function's call or result.
    """
    instructions = asked.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise wrong("instructions", "must be text")
    first = [] if instructions is None else [{"role": "system", "content": instructions}]
    before = [message.model_dump(mode="json", exclude_defaults=True) for message in earlier]
    return [*first, *before, *input_messages(asked, [call.id for message in earlier for call in message.tool_calls])]


def input_messages(asked: Body, earlier_calls: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the input alone, as messages. Calls stand in the assistant's message before them.

    `earlier_calls` are the ids of calls in the conversation before, whose results the input may have.
    """
    given = asked.get("input")
    if given is None:
        if asked.get("prompt") is not None or has_variables(asked):
            return []
        raise missing("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list | tuple) or not given:
        raise wrong("input", "must be text, or a list of at least one item")
    messages: list[dict[str, Any]] = []
    called = [*earlier_calls]
    for index, item in enumerate(given):
        kind = item.get("type") if isinstance(item, dict) else None
        param = f"input[{index}]"
        if kind == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            call = _call(item, param)
            messages[-1].setdefault("tool_calls", []).append(call)
            called.append(call["id"])
        elif kind == "function_call_output":
            result = _result(item, param)
            if result["tool_call_id"] not in called:
                raise wrong(f"{param}.call_id", "names no call before it: send the call, too, or previous_response_id")
            messages.append(result)
        elif kind != _SEARCHED:
            messages.append(_message(item, param))
    return messages


def _call(item: Any, param: str) -> dict[str, Any]:
    given = _required(_CALL.given(item, param), ("call_id", "name", "arguments"), param)
    return {"id": given["call_id"], "name": given["name"], "arguments": given["arguments"]}


def _result(item: Any, param: str) -> dict[str, Any]:
    given = _required(_RESULT.given(item, param), ("call_id", "output"), param)
    text = text_of(given["output"], RESPONSE_PARTS, f"{param}.output")
    return {"role": "tool", "content": text, "tool_call_id": given["call_id"]}


def _required(given: dict[str, Any], names: Sequence[str], param: str) -> dict[str, Any]:
    for name in names:
        if name not in given:
            raise missing(f"{param}.{name}")
    return given


def _message(item: Any, param: str) -> dict[str, str]:
    kind = item.get("type", "message") if isinstance(item, dict) else "message"
    if kind == REFERENCE:  # a gateway has put the items there before; a line of a batch is read by itself
        raise unsupported(f"{param}.type", "earlier responses are not at hand here: send the item itself")
    if kind != "message":
        raise unsupported(
            f"{param}.type", "must be message, function_call or function_call_output: headrace reads text only"
        )
    given = _ITEM.given(item, param)
    if "content" not in given:
        raise missing(f"{param}.content")
    return {
        "role": role_of(given.get("role"), f"{param}.role"),
        "content": text_of(given["content"], RESPONSE_PARTS, f"{param}.content"),
    }


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return the job of a response that stands alone; `continued` reads one that continues an earlier response.

    Refused names what cannot be had.
    """
    asked = PARAMETERS.given(body)
    if "previous_response_id" in asked:
        raise unsupported("previous_response_id", "earlier responses are not at hand here: send them in the input")
    return continued(body, asker, ())


def continued(body: Body, asker: RequestContext, earlier: Sequence[Message]) -> OpenAIRequest:
    """Return the job of a response that continues a conversation, and the function that makes its answer.

    Refused names what cannot be had.
    """
    asked = PARAMETERS.given(body)
    stream, _ = wants_stream(asked)
    _check_background(asked, stream)
    tools, output = _tools(asked), response_format(asked)
    names = {**tools.names, **output.names, "application": "prompt", "variables": "prompt.variables"}
    job = generation_job(
        asked,
        asker,
        {"messages": messages_of(asked, earlier), **_application(asked), **tools.fields, **output.fields},
        names={"messages": "input", **names},
        length=("max_output_tokens",),
    )
    if flag(asked, "background"):
        job = job.model_copy(update={"callback": (job.callback or Callback(response=True)).as_response()})

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        (result,) = answered(ends, "generation")
        return ended_body(asked, job, result.job_id, result)

    def cut(end: End) -> dict[str, Any]:
        return ended_body(asked, job, failure_told(end)["job_id"], end)

    return OpenAIRequest((job,), answer, stream, events, "input", names, cut)


def _application(asked: Body) -> dict[str, Any]:
    """Return the application that stands where OpenAI's stored prompts stood, as fields of a job."""
    prompt = asked.get("prompt")
    if prompt is None:
        return {}
    given = _required(_PROMPT.given(prompt, "prompt"), ("id",), "prompt")
    name, version = given["id"], given.get("version")
    if not isinstance(name, str) or not isinstance(version, str | None):
        raise wrong("prompt", "id and version must be text")
    variables = given.get("variables", {})
    if not isinstance(variables, Mapping):
        raise wrong("prompt.variables", "must be an object")
    values = {key: _variable(value, f"prompt.variables.{key}") for key, value in variables.items()}
    return {"application": name if version is None else f"{name}@{version}", "variables": values}


def _variable(value: Any, param: str) -> Any:
    """Return the value of a variable: as it is, or the text of a part of OpenAI's."""
    return text_of([value], RESPONSE_PARTS, param) if isinstance(value, Mapping) else value


def conversation(asked: Body, job: GenerationJob, end: End) -> tuple[Message, ...]:
    """Return the conversation up to the end of a response, for the next response to continue. It has no instructions.

    Refused where there is neither a text nor a call to go on from.
    """
    said = spoken(end) if isinstance(end, Result) else None
    if said is None or (said.text is None and not said.calls):
        raise wrong("previous_response_id", "that response has no text to go on from")
    before = job.messages[1:] if asked.get("instructions") is not None else job.messages
    return (*before, Message(role="assistant", content=said.text or "", tool_calls=said.calls))


def _tools(asked: Body) -> Asked:
    """Return the tools of a response as fields of its job: a search, which headrace makes itself, or functions."""
    given = asked.get("tools")
    first = given[0] if isinstance(given, list | tuple) and given else None
    if isinstance(first, Mapping) and first.get("type") == SEARCH:
        return Asked(knowledge_of(asked), NAMES)
    return response_tools(asked)


def _check_background(asked: Body, stream: bool) -> None:
    stored = flag(asked, "store", default=True)
    if not flag(asked, "background"):
        return
    if not stored:
        raise unsupported("store", "must be true with background=true: it is retrieved later")
    if stream:
        raise unsupported("stream", "is not supported with background=true: retrieve the response when it has ended")
