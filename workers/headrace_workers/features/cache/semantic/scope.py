"""The identity of requests: all that an answer depends on. Pure."""

import hashlib
import json
from typing import Any

from headrace_schemas import GenerationJob, Message, Sampling
from headrace_schemas.grounding import WithoutPassages
from headrace_workers.text.normalised import normalised

# An embedder reads some 250 tokens: of longer questions it would see the beginning alone.
LONGEST_QUESTION = 800  # characters
# Above it two answers to one question are meant to differ.
WARMEST = 0.3


def key_of(job: GenerationJob, model: str, *, screened: bool = False) -> str:
    """The very same request has the same key: SHA-256, in hexadecimal. `model` names the model and its version, and
    `screened` says whether the passages that it rests on are.
    """
    turns = [_turn(message) for message in job.conversation]
    return _digest({**_around(job, model, screened), "turns": turns})


def normalised_key_of(job: GenerationJob, model: str, *, screened: bool = False) -> str:
    """Return the key that requests share whose questions have one normalised form: SHA-256, in hexadecimal. All else
    is the very same.
    """
    turns = [_turn(message) for message in job.conversation[:-1]]
    return _digest({**_around(job, model, screened), "turns": turns, "normalised": normalised(job.question)})


def scope_of(job: GenerationJob, model: str, embedder: str, *, screened: bool = False) -> str:
    """All but the question itself: questions of one scope may be answered for each other."""
    before = job.conversation[:-1]
    system = [message.content if message.name is None else [message.content, message.name] for message in before]
    return _digest({**_around(job, model, screened), "system": system, "embedder": embedder})


def not_by_likeness(job: GenerationJob) -> str | None:
    """Why no answer to a question like `job.question` may be served; None where one may."""
    if not stands_alone(job):
        return "a turn of a conversation may mean something else than its words"
    if job.offer:
        return "a call of a tool is for the words of its own question"
    if not job.question.strip():
        return "the question is empty"
    if len(job.question) > LONGEST_QUESTION:
        return f"the question has more than {LONGEST_QUESTION} characters, which no embedder reads whole"
    if job.sampling.temperature > WARMEST:
        return f"the temperature is above {WARMEST:g}: answers are meant to differ"
    return None


def stands_alone(job: GenerationJob) -> bool:
    """Return True if the question comes first: earlier turns of a conversation change its meaning."""
    *before, last = job.conversation
    return last.role == "user" and all(message.role == "system" for message in before)


def _around(job: GenerationJob, model: str, screened: bool) -> dict[str, Any]:
    around: dict[str, Any] = {"tenant": job.tenant, "model": model, "sampling": _chosen(job.sampling)}
    if job.knowledge is not None:
        around |= {"knowledge": job.knowledge, "without_passages": job.without_passages or WithoutPassages.ABSTAIN}
        if job.knowledge_filter is not None:
            around["knowledge_filter"] = job.knowledge_filter.model_dump(mode="json")
        if screened:
            around["screened"] = True
    asked = {"output", "tools", "tool_choice", "parallel_tool_calls"}
    wanted = job.model_dump(mode="json", include=asked, exclude_defaults=True)
    return {**around, **wanted}


def _turn(message: Message) -> list[Any]:
    """Return what a turn says: its role and text, the calls of tools or the call whose result it is, and who speaks."""
    calls = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    named = [] if message.name is None else [{"name": message.name}]
    return [message.role, message.content, *([calls] if calls else []), *filter(None, [message.tool_call_id]), *named]


def _chosen(sampling: Sampling) -> dict[str, Any]:
    """Return the sampling parameters, without the ones that temperature 0 ignores."""
    ignored = {"top_p", "top_k", "seed"} if sampling.temperature == 0 else set[str]()
    if sampling.repetition_penalty is None:  # then it is the model's, and part of its version
        ignored.add("repetition_penalty")
    return sampling.model_dump(mode="json", exclude=ignored)


def _digest(value: Any) -> str:
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(written.encode()).hexdigest()
