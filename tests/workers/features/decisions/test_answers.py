import pytest

from headrace_schemas.decision import (
    Choice,
    ChoiceAnswer,
    ChoiceOption,
    Level,
    Predicate,
    PredicateAnswer,
    RefusedAnswer,
    ScaleQuestion,
    ScoreAnswer,
)
from headrace_schemas.errors import PromptTooLong
from headrace_workers.features.decisions.deciding import QuestionScores
from headrace_workers.features.decisions.stage import answer_of

CHOICE = Choice(
    type="choice",
    name="spoken",
    instructions="What was said?",
    choices=(ChoiceOption(value="true"), ChoiceOption(value=True), ChoiceOption(value=False)),
)


def scale(*values: int | None) -> ScaleQuestion:
    levels = tuple(Level(label=f"level {place}", value=value) for place, value in enumerate(values))
    return ScaleQuestion(type="score", instructions="How good?", levels=levels)


def test_a_predicate_has_the_probability_of_yes() -> None:
    question = Predicate(type="predicate", name="late", instructions="Is it late?")
    answer = answer_of(question, QuestionScores((0.75, 0.25), mass=0.5, stated=True, calibrated=True))
    assert answer == PredicateAnswer(
        type="predicate", name="late", probability=0.75, mass=0.5, stated=True, calibrated=True
    )


def test_true_and_the_text_true_are_answered_apart() -> None:
    answer = answer_of(CHOICE, QuestionScores((0.3, 0.6, 0.1), mass=None))
    assert isinstance(answer, ChoiceAnswer)
    assert (answer.choice, answer.confidence, answer.name) == (True, 0.6, "spoken")
    assert [(repr(probability.value), probability.probability) for probability in answer.probabilities] == [
        ("'true'", 0.3),
        ("True", 0.6),
        ("False", 0.1),
    ]


def test_the_first_of_equally_likely_choices_is_chosen() -> None:
    answer = answer_of(CHOICE, QuestionScores((0.4, 0.4, 0.2), mass=None))
    assert isinstance(answer, ChoiceAnswer)
    assert answer.choice == "true"


@pytest.mark.parametrize(("values", "score"), [((None, None, None), 1.3), ((1, 2, 10), 5.8)])
def test_a_score_is_the_expectation_of_its_levels(values: tuple[int | None, ...], score: float) -> None:
    answer = answer_of(scale(*values), QuestionScores((0.2, 0.3, 0.5), mass=0.9))
    assert isinstance(answer, ScoreAnswer)
    assert (answer.score, answer.confidence) == (pytest.approx(score), 0.5)
    assert [probability.label for probability in answer.probabilities] == ["level 0", "level 1", "level 2"]


def test_a_question_without_scores_is_refused() -> None:
    assert answer_of(CHOICE, None) == RefusedAnswer(type="refusal", name="spoken")
    found = answer_of(CHOICE, PromptTooLong("it has 9,000 tokens"))
    assert found == RefusedAnswer(type="refusal", name="spoken", reason="it has 9,000 tokens")
