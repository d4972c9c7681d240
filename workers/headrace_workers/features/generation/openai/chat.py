"""POST /v1/chat/completions."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from headrace_workers.features.generation.openai.common_fields import OF_GENERATION, WISHES, tier
from headrace_workers.features.generation.openai.content import CHAT_PARTS, role_of, text_of
from headrace_workers.features.generation.openai.generation import generation_job, model_of, spoken, usage_told
from headrace_workers.features.generation.openai.job_receipt import receipt
from headrace_workers.features.generation.openai.request import Asker, Body, Request
from headrace_workers.features.generation.openai.streaming import wants_stream
from headrace_workers.features.generation.openai.text_chunks import pieces
from headrace_workers.http.openai_errors import End, answered, missing, wrong
from headrace_workers.http.openai_parameters import Parameters

PARAMETERS: Final = Parameters(
    works=frozenset(
        {
            "messages", "model", "temperature", "top_p", "seed", "stop", "max_completion_tokens", "max_tokens",
            "service_tier", "metadata", "safety_identifier", "user", "stream", "stream_options", WISHES,
        }
    ),
    refused={
        "n": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "response_format": ({"type": "text"},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
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
    works=frozenset({"role", "content", "refusal", "annotations"}),
    refused={"name": (), "tool_calls": ([],), "tool_call_id": (), "function_call": ()},
    unmeant={"audio": ()},
)


def read(body: Body, asker: Asker) -> Request:
    """Return the job of a chat completion, and the function that makes its answer.

    Raise Refused for what is not supported.
    """
    asked = PARAMETERS.given(body)
    stream, with_usage = wants_stream(asked)
    messages = [_message(each, f"messages[{place}]") for place, each in enumerate(_messages(asked))]
    job = generation_job(asked, asker, {"messages": messages}, names={"messages": "messages"}, length=_LENGTH)
    told = tier(asked)

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        (result,) = answered(ends, "generation")
        said = spoken(result)
        return {
            "id": f"chatcmpl-{result.job_id}",
            "object": "chat.completion",
            "created": int(result.accepted_at.timestamp()),
            "model": model_of(result, asked),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": said.text, "refusal": said.refusal},
                    "logprobs": None,
                    "finish_reason": said.finish_reason,
                }
            ],
            "usage": usage_told([result]),
            "service_tier": told,
            "metadata": asked.get("metadata"),
            WISHES: receipt(result),
        }

    return Request((job,), answer, stream, partial(_chunks, with_usage=with_usage))


def _messages(asked: Body) -> list[Any]:
    messages = asked.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list | tuple) or not messages:
        raise wrong("messages", "must be a list of at least one message")
    return list(messages)


def _message(message: object, param: str) -> dict[str, str]:
    given = _MESSAGE.given(message, param)
    role = role_of(given.get("role"), f"{param}.role")
    content = given.get("content", given.get("refusal"))  # an answer of ours that abstained has only the latter
    if content is None:
        raise missing(f"{param}.content")
    return {"role": role, "content": text_of(content, CHAT_PARTS, f"{param}.content")}


def _chunks(body: Body, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield a finished chat completion in chunks: the role, the text in pieces, the finish reason with the receipt.

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
    yield {**chunk({}, choice["finish_reason"]), WISHES: body[WISHES]}
    if with_usage:
        yield {**shared, "choices": [], "usage": body["usage"]}
