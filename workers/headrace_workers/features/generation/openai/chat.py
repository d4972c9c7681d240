"""POST /v1/chat/completions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from headrace_schemas import DeadLetter
from headrace_workers.features.generation.openai.formats import chat_format
from headrace_workers.features.generation.openai.generation import (
    Spoken,
    accepted_at,
    generation_job,
    model_of,
    pieces,
    receipt,
    spoken,
    usage_told,
)
from headrace_workers.features.generation.openai.request import (
    CHAT_PARTS,
    OF_GENERATION,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    has_variables,
    role_of,
    text_of,
    tier,
    wants_stream,
)
from headrace_workers.features.generation.openai.tools import calls_in, chat_calls, chat_tools
from headrace_workers.http.openai import End, Parameters, answered, failure_told, missing, wrong

PARAMETERS: Final = Parameters(
    works=frozenset(
        {
            "messages", "model", "temperature", "top_p", "seed", "stop", "max_completion_tokens", "max_tokens",
            "service_tier", "metadata", "safety_identifier", "user", "stream", "stream_options", "response_format",
            "tools", "tool_choice", "parallel_tool_calls", WISHES,
        }
    ),
    refused={
        "n": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "moderation": (),
        "store": (False,),
    },
    unmeant={
        "audio": (),
        "modalities": (["text"],),
        "prediction": (),
        "prompt_cache_key": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    },
    options=OF_GENERATION,
)  # fmt: skip

_LENGTH: Final = ("max_completion_tokens", "max_tokens")
_MESSAGE: Final = Parameters(
    # `parsed` stands in a message that the client parsed and sends back: it repeats the content.
    works=frozenset({"role", "content", "name", "refusal", "annotations", "tool_calls", "parsed"}),
    refused={"tool_call_id": (), "function_call": ()},
    unmeant={"audio": ()},
)
_RESULT: Final = Parameters(works=frozenset({"role", "content", "tool_call_id", "name"}))


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return the job of a chat completion, and the function that makes its answer.

    Raise Refused for what is not supported.
    """
    asked = PARAMETERS.given(body)
    stream, with_usage = wants_stream(asked)
    messages = [_message(message, f"messages[{index}]") for index, message in enumerate(_messages(asked))]
    tools, output = chat_tools(asked), chat_format(asked)
    names = {**tools.names, **output.names}
    job = generation_job(
        asked,
        asker,
        {"messages": messages, **tools.fields, **output.fields},
        names={"messages": "messages", **names},
        length=_LENGTH,
    )
    told = tier(asked)

    def body_of(job_id: str | None, said: Spoken, **more: Any) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{job_id}",
            "object": "chat.completion",
            "choices": [{"index": 0, "message": _answer(said), "logprobs": None, "finish_reason": said.finish_reason}],
            "service_tier": told,
            "metadata": asked.get("metadata"),
            **more,
        }

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        (result,) = answered(ends, "generation")
        return body_of(
            result.job_id,
            spoken(result),
            created=int(result.accepted_at.timestamp()),
            model=model_of(result, asked),
            usage=usage_told([result]),
            headrace=receipt(result),
        )

    def cut(end: DeadLetter) -> dict[str, Any]:
        failure = failure_told(end)
        said = Spoken(None, "length")
        return body_of(
            failure["job_id"], said, created=int(accepted_at(end)), model=job.first_model,
            usage=usage_told([end]), headrace=failure,
        )  # fmt: skip

    return OpenAIRequest((job,), answer, stream, partial(_chunks, with_usage=with_usage), names=names, cut=cut)


def _answer(said: Spoken) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.text, "refusal": said.refusal}
    return {**message, "tool_calls": chat_calls(said.calls)} if said.calls else message


def _messages(asked: Body) -> list[Any]:
    messages = asked.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list | tuple) or not (messages or has_variables(asked)):
        raise wrong("messages", "must be a list of at least one message")
    return list(messages)


def _message(message: object, param: str) -> dict[str, Any]:
    if isinstance(message, Mapping) and message.get("role") == "tool":
        return _tool_result(message, param)
    given = _MESSAGE.given(message, param)
    role = role_of(given.get("role"), f"{param}.role")
    content = given.get("content", given.get("refusal"))  # an answer of ours that abstained has only the latter
    calls = calls_in(given.get("tool_calls", ()), f"{param}.tool_calls")
    if calls and role != "assistant":
        raise wrong(f"{param}.tool_calls", "are only in a message of the assistant")
    if content is None and not calls:
        raise missing(f"{param}.content")
    text = "" if content is None else text_of(content, CHAT_PARTS, f"{param}.content")
    turn = {"role": role, "content": text, "name": given.get("name"), "tool_calls": calls}
    return {name: value for name, value in turn.items() if value not in (None, []) or name == "content"}


def _tool_result(message: Mapping[str, Any], param: str) -> dict[str, Any]:
    given = _RESULT.given(message, param)
    for name in ("content", "tool_call_id"):
        if name not in given:
            raise missing(f"{param}.{name}")
    return {**given, "content": text_of(given["content"], CHAT_PARTS, f"{param}.content")}


def _chunks(body: Body, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield a finished chat completion in chunks: the role, the text in pieces, the calls, the finish reason with the
    receipt.

    With usage, one more comes last that has no choice.
    """
    (choice,) = body["choices"]
    shared = {
        **{name: body[name] for name in ("id", "created", "model", "service_tier")},
        "object": "chat.completion.chunk",
        **({"usage": None} if with_usage else {}),
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {
            **shared,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        }

    message = choice["message"]
    yield chunk({"role": "assistant", "content": ""})
    for name in ("content", "refusal"):
        for piece in pieces(message[name] or ""):
            yield chunk({name: piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield chunk({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        for piece in pieces(function["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield {**chunk({}, choice["finish_reason"]), WISHES: body[WISHES]}
    if with_usage:
        yield {**shared, "choices": [], "usage": body["usage"]}
