"""POST /v1/decisions: the job whose questions are decided, and its answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_schemas import DecisionJob, Result
from headrace_schemas.decision import MAX_QUESTIONS
from headrace_workers.features.generation.openai.generation import receipt
from headrace_workers.features.generation.openai.request import (
    OF_ANY,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    build,
    role_of,
    shared_fields,
    text_of,
)
from headrace_workers.http.openai import End, Parameters, answered, missing, unsupported, wrong

OF_DECISION: Final = (*OF_ANY, "cache", "max_age", "screen", "fallback_on_refusal")
PARAMETERS: Final = Parameters(
    works=frozenset({"input", "model", "questions", "safety_identifier", WISHES}),
    unmeant={"prompt_cache_key": (), "prompt_cache_options": ()},
    options=OF_DECISION,
)

_OWN: Final = ("mass", "calibrated", "calibration", "stated", "reason")  # fields of an answer that OpenAI's has not
_QUESTIONS: Final = {
    "predicate": Parameters(frozenset({"type", "name", "instructions"})),
    "choice": Parameters(frozenset({"type", "name", "instructions", "choices"})),
    "score": Parameters(frozenset({"type", "name", "instructions", "levels"})),
}
_OPTIONS: Final = {
    "choices": Parameters(frozenset({"value", "description"})),
    "levels": Parameters(frozenset({"label", "description"})),
}
_MESSAGE: Final = Parameters(frozenset({"type", "role", "content"}), unmeant={"phase": ()})
_CALL: Final = Parameters(
    frozenset({"type", "call_id", "name", "arguments", "input", "id", "status"}), unmeant={"namespace": ()}
)
_OUTPUT: Final = Parameters(frozenset({"type", "call_id", "output", "id", "status"}))
# By the type of a call: the field of its arguments. The type of its output has `_output` after it.
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_PARTS: Final = {"input_text": "text", "input_json": "text", "output_text": "text", "refusal": "refusal"}


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return the job of these questions, and the function that makes its answer. Refused names what cannot be had."""
    asked = PARAMETERS.given(body)
    given = asked.get("questions")
    if given is None:
        raise missing("questions")
    if not isinstance(given, list | tuple):
        raise wrong("questions", "must be a list")
    if len(given) > MAX_QUESTIONS:
        raise wrong("questions", f"at most {MAX_QUESTIONS} questions, not {len(given)}: send them in several requests")
    fields = {
        **shared_fields(asked, asker, OF_DECISION),
        **{name: asked[name] for name in ("model",) if name in asked},
        "input": _input(asked),
        "questions": [_question(item, f"questions[{place}]") for place, item in enumerate(given)],
    }
    names = {name: name for name in ("model", "input", "questions")}
    job = build(DecisionJob, fields, asker, {**names, "idempotency_key": "Idempotency-Key"})

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        (result,) = answered(ends, "decision")
        return _body(job, result)

    return OpenAIRequest((job,), answer, prompt="input")


def _input(asked: Body) -> str:
    """Return the input as one text: of several items each with who says it, in their order."""
    given = asked.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return given
    if not isinstance(given, list | tuple) or not given:
        raise wrong("input", "must be text, or a list of at least one item")
    called: dict[object, str] = {}
    items = [_item(item, f"input[{place}]", called) for place, item in enumerate(given)]
    if len(items) == 1 and items[0][0] == "user":
        return items[0][1]
    return "\n\n".join(f"{speaker}: {text}" for speaker, text in items)


def _item(item: Any, param: str, called: dict[object, str]) -> tuple[str, str]:
    """Return who says an item, and its text. `called` are the names of the calls before it, by their ids."""
    kind = item.get("type", "message") if isinstance(item, Mapping) else "message"
    kind = kind if isinstance(kind, str) else ""
    if kind == "message":
        given = _required(_MESSAGE.given(item, param), ("role", "content"), param)
        role_of(given["role"], f"{param}.role")
        return str(given["role"]), _text(given["content"], f"{param}.content")
    if arguments := _CALLS.get(kind):
        given = _required(_CALL.given(item, param), ("call_id", "name", arguments), param)
        for name in ("call_id", "name", arguments):
            if not isinstance(given[name], str):
                raise wrong(f"{param}.{name}", "must be text")
        called[given["call_id"]] = given["name"]
        return "assistant", f"calls {given['name']} with {given[arguments]}"
    if kind in {f"{call}_output" for call in _CALLS}:
        given = _required(_OUTPUT.given(item, param), ("call_id", "output"), param)
        if not isinstance(given["call_id"], str) or given["call_id"] not in called:
            raise wrong(f"{param}.call_id", "names no call before it: send the call, too")
        return called[given["call_id"]], _text(given["output"], f"{param}.output")
    raise unsupported(f"{param}.type", f"must be message, or one of {', '.join(_CALLS)} or its output")


def _question(question: Any, param: str) -> dict[str, Any]:
    """Return a question as a job has it: its instructions are one text."""
    kind = question.get("type") if isinstance(question, Mapping) else None
    parameters = _QUESTIONS.get(kind) if isinstance(kind, str) else None
    if parameters is None:
        words = f"must be one of {', '.join(_QUESTIONS)}"
        raise (
            missing(f"{param}.type")
            if kind is None and isinstance(question, Mapping)
            else wrong(f"{param}.type" if isinstance(question, Mapping) else param, words)
        )
    given = _required(parameters.given(question, param), ("instructions",), param)
    for name, options in _OPTIONS.items():
        if isinstance(listed := given.get(name), list | tuple):
            given[name] = [options.given(item, f"{param}.{name}[{place}]") for place, item in enumerate(listed)]
    return {**given, "instructions": _text(given["instructions"], f"{param}.instructions")}


def _text(content: Any, param: str) -> str:
    """Return a content as one text. A part of JSON is its text."""
    if isinstance(content, list | tuple):
        content = [_json_as_text(part, f"{param}[{place}]") for place, part in enumerate(content)]
    return text_of(content, _PARTS, param)


def _json_as_text(part: Any, param: str) -> Any:
    if not isinstance(part, Mapping) or part.get("type") != "input_json":
        return part
    if not isinstance(part.get("data"), Mapping | list):
        raise wrong(f"{param}.data", "must be an object, or a list of objects")
    if unknown := sorted(part.keys() - {"type", "data"}):
        raise wrong(f"{param}.{unknown[0]}", "is not known here: leave it out")
    return {"type": "input_json", "text": json.dumps(part["data"], ensure_ascii=False, separators=(",", ":"))}


def _required(given: dict[str, Any], names: Sequence[str], param: str) -> dict[str, Any]:
    for name in names:
        if name not in given:
            raise missing(f"{param}.{name}")
    return given


def _body(job: DecisionJob, result: Result) -> dict[str, Any]:
    """Return OpenAI's answer. Questions about an input that moderation blocked are refused, each."""
    made = result.decisions
    usage = made.usage if made is not None else None
    read, written = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
    if made is None:
        answers = [{"type": "refusal", "name": question.name} for question in job.questions]
    else:
        answers = [_answer(answer.model_dump(mode="json")) for answer in made.answers]
    return {
        "answers": answers,
        "model": job.first_model if made is None else made.model,
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {
                "cache_write_tokens": 0,
                "cached_tokens": (usage.cached_tokens if usage is not None else None) or 0,
            },
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": (usage.reasoning_tokens if usage is not None else None) or 0},
            "total_tokens": read + written,
        },
        WISHES: receipt(result),
    }


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    own = {name: answer.pop(name, None) for name in _OWN}
    return {**answer, WISHES: {name: value for name, value in own.items() if value is not None}}
