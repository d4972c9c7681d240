"""Events as JSON documents, and documents that are nearly events: one change away from them."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from headrace_schemas.codec import encode_value
from headrace_schemas.examples import EXAMPLES

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
filled = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)

_JOB, _NOON, _USAGE = (
    "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11",
    "2026-01-31T12:00:00Z",
    {"prompt_tokens": 1, "completion_tokens": 1},
)
CRITERIA: tuple[dict[str, Any], ...] = (
    {"criterion": "exact_match", "ignore_case": True, "trim": True, "differs": True, "reference": "x"},
    {"criterion": "f1"}, {"criterion": "bleu"}, {"criterion": "gleu"}, {"criterion": "fuzzy_match"},
    {"criterion": "cosine"}, {"criterion": "json_valid"}, {"criterion": "regex", "pattern": "a"},
    {"criterion": "rouge", "variant": "l"}, {"criterion": "json_schema", "json_schema": {"items": {"minimum": 1.5}}},
    {"criterion": "language", "language": "en"}, {"criterion": "grounded"},
)  # fmt: skip
# Events that say what the examples do not.
_OTHERS: dict[str, list[dict[str, Any]]] = {
    "headrace.job.generation.v1": [
        {"model": "m", "prompt": "p", "callback": {"endpoint": "we_1", "response": True}, "criteria": [*CRITERIA]},
        {"application": "triage@3", "variables": {"a": "x", "b": 1, "c": ["x"], "d": True}},
        {
            "model": ["a", "b"], "prompt": "p", "criteria": [{"criterion": "f1"}],
            "min_quality": {"criterion": "f1", "value": 0.5, "then": "hold", "attempts": 3},
        },
        {
            "model": "m", "tools": [{"name": "f", "parameters": {"type": "object"}}], "tool_choice": {"name": "f"},
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "a", "name": "f", "arguments": "{}"}]},
                {"role": "tool", "tool_call_id": "a", "content": "d"},
            ],
        },
        {"model": "m", "prompt": "p", "output": {"type": "json_schema", "json_schema": {}, "in_prompt": False}},
        {"model": "m", "prompt": "p", "output": {"type": "choice", "choices": ["a", "b"]}},
    ],
    "headrace.job.decision.v1": [
        {
            "model": ["a", "b"], "messages": [{"role": "user", "content": "c"}], "screen": True,
            "questions": [
                {"type": "score", "instructions": "i",
                 "levels": [{"label": "a", "value": 1}, {"label": "b", "value": 2}]}
            ],
        }
    ],
    "headrace.job.tuning.v1": [
        {
            "model": "m", "training_file": "file-1", "validation_file": "file-2", "seed": 1, "batch_size": 2,
            "learning_rate_multiplier": 0.5, "lora": {"rank": 4, "alpha": 8, "targets": ["q_proj"]},
            "quantizations": ["int8", "float32"],
        }
    ],
    "headrace.review.v1": [
        {"job_id": _JOB, "tenant": "a", "category": "toxicity", "score": 0.5, "who": "ann", "when": _NOON}
    ],
    "headrace.result.v1": [
        {
            "job_id": _JOB, "tenant": "a", "status": "blocked", "refusal": "prompt_blocked", "kind": "decision",
            "accepted_at": _NOON, "moderation": {"action": "block"},
            "embedding": {"model": "m", "embedder": "e", "dimensions": 2, "vector": "AACAPwAAAL8=", "usage": _USAGE},
            "decisions": {
                "model": "m", "quantization": "q", "usage": _USAGE,
                "answers": [
                    {"type": "predicate", "probability": 0.5, "mass": 1}, {"type": "refusal"},
                    {"type": "choice", "choice": True, "confidence": 1,
                     "probabilities": [{"value": "a", "probability": 1}]},
                    {"type": "score", "score": 1, "confidence": 1,
                     "probabilities": [{"label": "a", "probability": 1, "value": 2}]},
                ],
            },
            "tuned": {"model": "m", "aliases": ["a"], "usage": _USAGE, "metrics": {"loss": 0.5}},
        }
    ],
    "headrace.dead.v1": [
        {
            "job_id": _JOB, "tenant": "a", "category": "poison", "reason": "r", "stage": "generate", "attempts": 3,
            "topic": "jobs.generation", "size": 1, "original": "x", "encoding": "base64", "truncated": True,
        }
    ],
}  # fmt: skip


def documents(event_type: str) -> list[dict[str, Any]]:
    """Documents of this type that together have every field and every kind of part."""
    return [json.loads(encode_value(EXAMPLES[event_type])), *_OTHERS.get(event_type, [])]


ODD: tuple[Any, ...] = (
    None, True, False, -3, -1, 0, 1, 2, 9, 10, 12, 1001, 10**30, 2**32, 2**32 - 1,
    -0.0, 1.0, 1.5, 2.0, 5.0, 5.5, 1e300, -1e300, 2.0**32, 32_768.0, 32_769.0,
    "", "a", "A", "a b", "ü", "a\nb", "a\n", "-", ".a", "a" * 64, "a" * 65, "ü" * 256, "a" * 257, "a" * 2_001, "5",
    "\x00",    "interactive", "block", "allow", "stop", "1-5", "contains", "length", "completed", "utf-8", "system",
    "2026-01-31T12:00:00Z", "2026-01-31 12:00:00z", "2026-01-31t12:00:00.123456789+05:30", "2026-01-31T12:00:00",
    "2026-01-31T12:00:00.1234567890Z", "2026-01-31T12:00Z", "2026-01-31T24:00:00Z", "2026-01-31T23:59:60Z",
    "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+0530", "0000-01-31T12:00:00Z", "2026-13-31T12:00:00Z",
    "20260131T120000Z", "2026-01-31", "1800000000", " 2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z",
    "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", "6F1D8A52-5D0C-5C39-9A53-0D1F6F6C7F11", "6f1d8a52",
    [], [0], [[]], ["a"], {}, {"a": "b"}, {"": "b"}, {"a": 1}, {"a\x00": "b"}, {"a\n": "b"}, {"a" * 257: "b"},
    {"type": "eq", "key": "k", "value": 1}, {"type": "in", "key": "k", "value": ["a"]}, {"type": "or", "filters": []},
    {"type": "or", "filters": [{"type": "ne", "key": "k", "value": True}]}, "eq", "nin", "and", "a" * 513, True,
    "abstain", {"criterion": "f1"}, {"criterion": "rubric", "question": "q"}, {"criterion": "length", "min_words": 1},
)  # fmt: skip
NAMES = (
    "surprise", "", "title", "default", "text", "prompt", "messages", "reason", "value", "tenant", "deadline", "seed",
    "priority", "max_words", "criterion", "criteria", "lane", "reference", "metadata", "model", "scale", "sampling",
    "answer", "type", "key", "filters", "knowledge", "knowledge_filter", "without_passages", "input",
    "dimensions", "application", "variables",
)  # fmt: skip


def neighbours(document: Any) -> Iterator[Any]:
    """Every document that is one change away: each place with each odd value, each field dropped or added."""
    for path, node in list(_paths(document)):
        if path:
            yield from (_with(document, path, odd) for odd in ODD)
            yield _with(document, path)
        if isinstance(node, list):
            yield from (_with(document, path, node * times) for times in (0, 2, 65))
        if isinstance(node, dict):
            yield from (
                _with(document, [*path, name], odd) for name in NAMES if name not in node for odd in (None, "a")
            )


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[list[Any], Any]]:
    yield list(path), node
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _paths(child, (*path, key))


def _with(document: Any, path: list[Any], *values: Any) -> Any:
    """The document with another value at a place, or with nothing there. The two share what is not on the way there."""
    if not path:
        return values[0]
    changed = copy.copy(document)
    if len(path) > 1:
        changed[path[0]] = _with(document[path[0]], path[1:], *values)
    elif values:
        changed[path[0]] = values[0]
    else:
        del changed[path[0]]
    return changed
