"""Answers to questions, from the probabilities of their labels."""

from collections.abc import Sequence
from typing import Any

from headrace_schemas import HeadraceError
from headrace_schemas.decision import (
    Choice,
    ChoiceAnswer,
    ChoiceProbability,
    DecisionAnswer,
    LevelProbability,
    Predicate,
    PredicateAnswer,
    RefusedAnswer,
    ScaleQuestion,
    ScoreAnswer,
)
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.features.decisions.deciding import QuestionScores


def answer_of(
    question: Predicate | Choice | ScaleQuestion, scores: QuestionScores | HeadraceError | None
) -> DecisionAnswer:
    """Return the answer to a question. Without scores it is a refusal, with the reason where it could not be asked.

    The probabilities of a predicate are those of yes and no; a scale's score is the expectation of its levels' values.
    """
    if scores is None or isinstance(scores, HeadraceError):
        reason = None if scores is None else reason_of(scores)[:MAX_SHORT_TEXT]
        return RefusedAnswer(type="refusal", name=question.name, reason=reason)
    shares = [_rounded(each) for each in scores.probabilities]
    of_all: dict[str, Any] = {
        "name": question.name,
        "mass": None if scores.mass is None else _rounded(scores.mass),
        "calibrated": scores.calibrated,
        "stated": scores.stated,
    }
    match question:
        case Predicate():
            return PredicateAnswer(type="predicate", probability=shares[0], **of_all)
        case Choice():
            best = _likeliest(shares)
            return ChoiceAnswer(
                type="choice",
                choice=question.choices[best].value,
                confidence=shares[best],
                probabilities=tuple(
                    ChoiceProbability(value=choice.value, probability=share)
                    for choice, share in zip(question.choices, shares, strict=True)
                ),
                **of_all,
            )
        case ScaleQuestion():
            values = question.values
            return ScoreAnswer(
                type="score",
                score=float(f"{sum(v * p for v, p in zip(values, scores.probabilities, strict=True)):.6g}"),
                confidence=max(shares),
                probabilities=tuple(
                    LevelProbability(label=level.label, probability=share, value=value)
                    for level, share, value in zip(question.levels, shares, values, strict=True)
                ),
                **of_all,
            )


def _likeliest(shares: Sequence[float]) -> int:
    """Return the place of the largest share; of equal ones the first."""
    return max(range(len(shares)), key=lambda place: (shares[place], -place))


def _rounded(share: float) -> float:
    """Return a probability with six digits: what an event of many answers has room for, and more than a model knows."""
    return min(1.0, max(0.0, float(f"{share:.6g}")))
