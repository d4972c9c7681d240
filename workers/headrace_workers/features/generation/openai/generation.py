"""The part that chat completions, completions and responses share: a generation job, and its result."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

from headrace_schemas import DeadLetter, GenerationJob, Result, Usage
from headrace_schemas.tool import ToolCall
from headrace_workers.features.generation.openai.request import OF_GENERATION, RequestContext, build, shared_fields
from headrace_workers.http.openai import End, wrong

_SAMPLING: Final = ("temperature", "top_p", "seed")
_NAMES: Final = {
    "model": "model",
    "idempotency_key": "Idempotency-Key",
    "sampling.stop": "stop",
    **{f"sampling.{name}": name for name in _SAMPLING},
}

_TOLD: Final = {
    "job_id", "status", "metadata", "application", "moderation", "judge", "stages", "seen_by", "cost",
    "accepted_at", "total_ms",
}  # fmt: skip
_OF_ANSWER: Final = {"quantization", "recall", "grounding", "attempts", "because"}
# About a line, and up to a space where there is one.
_PIECE: Final = re.compile(r".{1,63}\s|.{1,64}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The text of a result, or the reason why there is none, and its finish reason, in OpenAI's words.

    `refusal` is said instead of a text where nothing was found that the answer could rest on. `calls` are the calls of
    tools that the model asks for, with a text or instead of one.
    """

    text: str | None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]
    refusal: str | None = None
    calls: tuple[ToolCall, ...] = ()


def generation_job(
    asked: Mapping[str, Any],
    asker: RequestContext,
    content: Mapping[str, Any],
    *,
    names: Mapping[str, str],
    length: tuple[str, ...],
    number: str = "",
) -> GenerationJob:
    """Return the job that a body asks for. Raise Refused, which names the field that is wrong.

    `content` is `prompt` or `messages`, and whatever else the method says about the job; `names` are those of the
    body for it. `length` are the names of the parameter that bounds the answer's tokens, the newest first. `number`
    makes the key of one of several jobs.
    """
    fields = {**shared_fields(asked, asker, OF_GENERATION), **content}
    sampling = {name: asked[name] for name in _SAMPLING if name in asked}
    sampling |= {name: fields.pop(name) for name in ("top_k", "repetition_penalty") if name in fields}
    if "stop" in asked:
        stop = asked["stop"]
        sampling["stop"] = [stop] if isinstance(stop, str) else stop
    bounds = [name for name in length if name in asked]
    if bounds:
        if any(asked[name] != asked[bounds[0]] for name in bounds):
            raise wrong(bounds[-1], f"differs from {bounds[0]}: give one of the two")
        sampling["max_tokens"] = asked[bounds[0]]
    if "model" in asked:
        fields["model"] = asked["model"]
    all_names = {
        **_NAMES,
        "sampling.max_tokens": (bounds or length)[0],
        "sampling.top_k": "headrace.top_k",
        "sampling.repetition_penalty": "headrace.repetition_penalty",
        **names,
    }
    return build(GenerationJob, {**fields, "sampling": sampling}, asker, all_names, number)


def spoken(result: Result) -> Spoken:
    """Return the text and the finish reason of a generation job's result."""
    answer = result.answer
    if answer is not None and answer.tool_calls:
        return Spoken(answer.text or None, "tool_calls", calls=answer.tool_calls)
    if answer is None or answer.text is None:  # withheld by moderation
        return Spoken(None, "content_filter")
    if answer.finish_reason == "abstained":
        reason = answer.grounding.reason if answer.grounding else None
        return Spoken(None, "stop", reason or "nothing was found that an answer could rest on")
    return Spoken(answer.text, answer.finish_reason)


def is_truncated(end: End) -> TypeGuard[DeadLetter]:
    """Return True if a job ended since its tokens did, before its answer had the format that it asked for."""
    return isinstance(end, DeadLetter) and end.failure == "truncated"


def usage_told(ends: Sequence[Result | DeadLetter]) -> dict[str, int]:
    """Return the tokens that all of them took, as OpenAI's completions report them; none where no model was asked."""
    used = [usage for end in ends if (usage := _usage_of(end)) is not None]
    prompt, completion = sum(item.prompt_tokens for item in used), sum(item.completion_tokens for item in used)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _usage_of(end: Result | DeadLetter) -> Usage | None:
    if isinstance(end, Result):
        return end.answer.usage if end.answer else None
    return end.usage


def accepted_at(end: Result | DeadLetter) -> float:
    """Return when the job of an end was accepted, in seconds since 1970."""
    return end.accepted_at.timestamp() if end.accepted_at else 0.0


def model_of(result: Result, asked: Mapping[str, Any]) -> str:
    """Return the model that answered, or the requested model if none did."""
    return result.answer.model if result.answer else str(asked["model"])


def receipt(result: Result) -> dict[str, Any]:
    """Return the receipt of a job beside its answer: verdicts, cache, citations, cost, the models that
    were asked, the providers that saw its text, and times by stage.

    `metadata` is the request's own, with its safety_identifier and user.
    """
    told = result.model_dump(mode="json", exclude_none=True, include=_TOLD)
    if result.answer is not None:
        told |= result.answer.model_dump(mode="json", exclude_none=True, include=_OF_ANSWER)
    if result.decisions is not None:
        told |= result.decisions.model_dump(mode="json", exclude_none=True, include=_OF_ANSWER)
    if result.embedding is not None:
        told["embedder"] = result.embedding.embedder
    return told


def pieces(text: str) -> list[str]:
    """Yield the text in pieces; joined, they are the text again."""
    return _PIECE.findall(text)
