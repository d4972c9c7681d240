"""Scores as the receipt has them: with the name and the version of their criterion."""

from typing import Any

from headrace_schemas import Criterion, NotJudged, Score
from headrace_schemas.limits import MAX_SHORT_TEXT


def scored(criterion: Criterion, **said: Any) -> Score:
    """Return a score with this value, and further fields."""
    return Score(criterion=criterion.criterion, **called(criterion), **said)


def unscored(criterion: Criterion, code: NotJudged, reason: str, **said: Any) -> Score:
    """Return a score without a value, and the reason."""
    reason = reason.replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]
    return scored(criterion, not_judged=code, reason=reason, **said)


def called(criterion: Criterion) -> dict[str, str | None]:
    """Return a criterion's name with its version: names outlive questions."""
    return {"name": criterion.name, "version": None if criterion.name is None else criterion.version}
