"""headrace's receipt, as a response of OpenAI's carries it under `headrace`."""

from typing import Any, Final

from headrace_schemas import Result

_TOLD: Final = {"job_id", "status", "metadata", "moderation", "judge", "stages", "accepted_at", "total_ms"}
_OF_ANSWER: Final = {"quantization", "recall", "grounding"}


def receipt(result: Result) -> dict[str, Any]:
    """Return the receipt of a job beside its answer: verdicts, cache, citations, and times by stage.

    `metadata` is the request's own, with its safety_identifier and user.
    """
    told = result.model_dump(mode="json", exclude_none=True, include=_TOLD)
    if result.answer is not None:
        told |= result.answer.model_dump(mode="json", exclude_none=True, include=_OF_ANSWER)
    if result.embedding is not None:
        told["embedder"] = result.embedding.embedder
    return told
