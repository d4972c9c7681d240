"""Scores that are found before a job reaches its last judge: by an embedder's worker, and by other models.

The job carries them in its context, by the places of their criteria.
"""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Score

EMBEDDED: Final = "embedded"  # as the embedder's worker found them: without the criterion's name, and not yet drawn
JUDGED: Final = "judged"  # as they will stand in the receipt


def to_context(name: str, scores: Mapping[int, Score]) -> dict[str, Any]:
    """Return the scores as context for the job to carry."""
    found = {str(place): score.model_dump(mode="json", exclude_none=True) for place, score in scores.items()}
    return {name: found}


def from_context(name: str, context: Mapping[str, Any]) -> dict[int, Score]:
    """Return the scores that a job carries; none where nothing was found before."""
    return {int(place): Score.model_validate(score) for place, score in (context.get(name) or {}).items()}


def forgotten() -> dict[str, Any]:
    """Return the context without scores, for a job whose answer is made again."""
    return {EMBEDDED: None, JUDGED: None}
