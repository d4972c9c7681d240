"""The faults of an answer, in words for the model that answers again. The reference is never revealed."""

import json
from typing import Final

from headrace_schemas import (
    Contains,
    Criterion,
    Grounded,
    JsonSchema,
    JsonValid,
    Language,
    Length,
    Pairwise,
    Regex,
    Rubric,
    Score,
)

_MOST_NAMED: Final = 5  # sentences that are not supported


def critique(criterion: Criterion, score: Score, answer: str) -> str:
    """Return the user's turn after an answer that is not good enough."""
    text = f"That answer was scored {score.value or 0.0:.2f} of 1. What counts is this: {asked_for(criterion)}"
    found = [f"What is wrong first: {score.note}"] if score.note and isinstance(criterion, JsonSchema) else []
    for each in (score.unsupported or ())[:_MOST_NAMED]:
        found.append(f"Not supported: {answer[each.start : each.stop]} ({each.reason})")
    ask = "Answer again, better by this. Write the new answer alone, without a word about the old one."
    return "\n".join([text, *found, ask])


def asked_for(criterion: Criterion) -> str:
    """Return the demand of a criterion on an answer, as a sentence."""
    match criterion:
        case Rubric() | Pairwise():
            text = criterion.question if criterion.guidance is None else f"{criterion.question} {criterion.guidance}"
        case Contains():
            text = f"It must contain {json.dumps(criterion.text, ensure_ascii=False)}."
        case Regex():
            text = f"It must match the regular expression {criterion.pattern}"
        case JsonValid():
            text = "It must be one JSON document, with nothing before or after it."
        case JsonSchema():
            schema = json.dumps(criterion.json_schema, ensure_ascii=False)
            text = f"It must be one JSON document, with nothing around it, that keeps to this JSON Schema: {schema}"
        case Language():
            text = f"It must be in the language with the code {criterion.language}."
        case Length(max_words=None):
            text = f"It must have at least {criterion.min_words} words."
        case Length():
            text = f"It must have {criterion.min_words} to {criterion.max_words} words."
        case Grounded():
            text = "Each of its sentences must stand in what you were given."
        case _:
            text = "It must be nearer to what a right answer says."
    return text
