import pytest

from headrace_schemas import (
    Contains,
    Criterion,
    Grounded,
    JsonSchema,
    JsonValid,
    Language,
    Length,
    Regex,
    Rubric,
    Score,
    TokenF1,
)
from headrace_schemas.events import Unsupported
from headrace_workers.features.judging.quality_retry import asked_for, critique


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        (Rubric(question="Is it kind?"), "Is it kind?"),
        (Rubric(question="Is it kind?", guidance="Look twice."), "Is it kind? Look twice."),
        (Contains(text="Köln"), 'It must contain "Köln".'),
        (Regex(pattern="a+"), "It must match the regular expression a+"),
        (JsonValid(), "It must be one JSON document, with nothing before or after it."),
        (
            JsonSchema(json_schema={"title": "ü"}),
            'It must be one JSON document, with nothing around it, that keeps to this JSON Schema: {"title": "ü"}',
        ),
        (Language(language="de"), "It must be in the language with the code de."),
        (Length(min_words=3), "It must have at least 3 words."),
        (Length(min_words=3, max_words=5), "It must have 3 to 5 words."),
        (Grounded(), "Each of its sentences must stand in what you were given."),
        (TokenF1(reference="secret"), "It must be nearer to what a right answer says."),
    ],
)
def test_each_criterion_is_a_sentence(criterion: Criterion, said: str) -> None:
    assert asked_for(criterion) == said


def test_what_is_wrong_is_told() -> None:
    answer = "".join(f"Line {n}. " for n in range(7))
    places = [Unsupported(start=8 * n, stop=8 * n + 7, support=0.1, reason=f"why {n}", checked=True) for n in range(7)]
    score = Score(criterion="grounded", value=0.256, unsupported=tuple(places), note="of no schema")
    lines = critique(Grounded(), score, answer).split("\n")
    assert lines == [
        f"That answer was scored 0.26 of 1. What counts is this: {asked_for(Grounded())}",
        *(f"Not supported: Line {n}. (why {n})" for n in range(5)),
        "Answer again, better by this. Write the new answer alone, without a word about the old one.",
    ]
    schema = JsonSchema(json_schema={})
    assert critique(schema, Score(criterion="json_schema", value=0.0, note="/a: is missing"), "").split("\n")[1:-1] == [
        "What is wrong first: /a: is missing"
    ]
    assert critique(schema, Score(criterion="json_schema", not_judged="failed", reason="no"), "").startswith(
        "That answer was scored 0.00 of 1. What"
    )
