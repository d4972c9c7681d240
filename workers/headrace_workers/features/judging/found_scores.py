"""Scores that are found before a job comes to its last judge: where an embedder is, and by other models. They go on
with the job, by the places of their criteria.
"""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Score

EMBEDDED: Final = "embedded"  # as the embedder's worker found them: without the criterion's name, and not yet drawn
JUDGED: Final = "judged"  # as they will stand in the receipt


def to_context(name: str, scores: Mapping[int, Score]) -> dict[str, Any]:
    """What a job is to carry on."""
    found = {str(place): score.model_dump(mode="json", exclude_none=True) for place, score in scores.items()}
    return {name: found}


def from_context(name: str, context: Mapping[str, Any]) -> dict[int, Score]:
    """What it carries; nothing where nobody looked."""
    return {int(place): Score.model_validate(score) for place, score in (context.get(name) or {}).items()}


def forgotten() -> dict[str, Any]:
    """For a job whose answer is made again: what was found of this one says nothing of the next."""
    return {EMBEDDED: None, JUDGED: None}
