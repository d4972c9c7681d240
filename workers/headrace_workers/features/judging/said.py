"""Scores as the receipt has them: with what the criterion is called, and what it is now."""

from typing import Any

from headrace_schemas import Criterion, NotJudged, Score
from headrace_schemas.limits import MAX_SHORT_TEXT


def scored(criterion: Criterion, **said: Any) -> Score:
    """A score with this value, and what else is said of it."""
    return Score(criterion=criterion.criterion, **called(criterion), **said)


def unscored(criterion: Criterion, code: NotJudged, reason: str, **said: Any) -> Score:
    """A score without a value, and why."""
    reason = reason.replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]
    return scored(criterion, not_judged=code, reason=reason, **said)


def called(criterion: Criterion) -> dict[str, str | None]:
    """A criterion's name, and with one its version, as names outlive questions."""
    return {"name": criterion.name, "version": None if criterion.name is None else criterion.version}
