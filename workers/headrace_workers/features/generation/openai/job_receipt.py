"""headrace's receipt, as a response of OpenAI's carries it under `headrace`."""

from typing import Any, Final

from headrace_schemas import Result

_TOLD: Final = {
    "job_id", "status", "metadata", "moderation", "judge", "stages", "seen_by", "cost", "accepted_at", "total_ms",
}  # fmt: skip
_OF_ANSWER: Final = {"quantization", "recall", "grounding", "attempts", "because"}


def receipt(result: Result) -> dict[str, Any]:
    """Return the receipt of a job beside its answer: verdicts, cache, citations, cost, the models that
    were asked, the providers that saw its text, and times by stage.

    `metadata` is the request's own, with its safety_identifier and user.
    """
    told = result.model_dump(mode="json", exclude_none=True, include=_TOLD)
    if result.answer is not None:
        told |= result.answer.model_dump(mode="json", exclude_none=True, include=_OF_ANSWER)
    if result.embedding is not None:
        told["embedder"] = result.embedding.embedder
    return told
