"""POST /v1/moderations: each text is a job of its own, and all of them one answer."""

from collections.abc import Sequence
from typing import Any, Final

from headrace_schemas import ModerationJob, ModerationVerdict
from headrace_schemas.job import POLICY_MODEL
from headrace_workers.features.generation.openai.generation import receipt
from headrace_workers.features.generation.openai.request import (
    OF_ANY,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    build,
    shared_fields,
    text_of,
    texts_of,
)
from headrace_workers.http.openai import End, Parameters, answered

MAX_INPUTS: Final = 2048

PARAMETERS: Final = Parameters(works=frozenset({"input", "model", WISHES}), options=OF_ANY)


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return a job for each text, and the function that makes their answer. A list of parts is one text.

    Refused names what cannot be had.
    """
    asked = PARAMETERS.given(body)
    inputs = _inputs(asked)
    shared: dict[str, Any] = {
        **shared_fields(asked, asker, OF_ANY),
        **{name: asked[name] for name in ("model",) if name in asked},
    }
    jobs = tuple(
        build(
            ModerationJob,
            {**shared, "input": text},
            asker,
            {"model": "model", "input": path, "idempotency_key": "Idempotency-Key"},
            "" if len(inputs) == 1 else f"/{index}",
        )
        for index, (path, text) in enumerate(inputs)
    )

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        results = answered(ends, "moderation")
        return {
            "id": f"modr-{results[0].job_id}",
            "model": asked.get("model", POLICY_MODEL),
            "results": [_openai_verdict(result.moderation) for result in results if result.moderation is not None],
            WISHES: [{**receipt(result), "measured": _measured(result.moderation)} for result in results],
        }

    return OpenAIRequest(jobs, answer)


def _inputs(asked: Body) -> list[tuple[str, str]]:
    value = asked.get("input")
    if isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value):
        return [("input", text_of(value, {"text": "text"}, "input"))]
    return texts_of(asked, "input", MAX_INPUTS)


def _measured(verdict: ModerationVerdict | None) -> list[str]:
    """Return the categories that a detector looked for. The others say nothing about the text."""
    return sorted(verdict.categories) if verdict is not None else []


def _openai_verdict(verdict: ModerationVerdict) -> dict[str, Any]:
    """Return a verdict in OpenAI's form.

    A category that no detector looked for is false, with the score 0: clients in typed languages fail on null.
    """
    names = sorted({*verdict.not_covered, *verdict.categories})
    return {
        "flagged": verdict.flagged,
        "categories": {name: verdict.categories.get(name, False) for name in names},
        "category_scores": {name: verdict.category_scores.get(name, 0.0) for name in names},
        "category_applied_input_types": {name: ["text"] if name in verdict.categories else [] for name in names},
    }
