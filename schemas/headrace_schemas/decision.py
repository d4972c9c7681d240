"""Questions about an input that are decided with probabilities, and their answers.

The shapes follow OpenAI's decisions. An answer has three fields of headrace's own: `mass`, `calibrated` and `stated`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic.types import Strict

from headrace_schemas.limits import FAIL_FAST, INTEGRAL, MAX_SHORT_TEXT, NO_NUL, Key, ShortText
from headrace_schemas.limits import Question as Instructions
from headrace_schemas.model import OutgoingValue, Value
from headrace_schemas.moderation import Unit

MAX_QUESTIONS: Final = 400
MAX_CHOICES: Final = 255  # of one question; also the most levels of a scale
MAX_LABELS: Final = 20_000  # of all questions of one job: each is a text whose probability is computed
_MAX_LEVEL: Final = 1_000_000


def _kind_of_choice(value: Any) -> str | None:
    """Return the kind of a choice: true is not the text "true"."""
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else None


ChoiceValue = Annotated[
    Annotated[bool, Strict(), Tag("boolean")] | Annotated[ShortText, Field(min_length=1), Tag("text")],
    Discriminator(
        _kind_of_choice, custom_error_type="choice_type", custom_error_message="must be text, true or false"
    ),
    WithJsonSchema({
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_SHORT_TEXT, "pattern": NO_NUL},
            {"type": "boolean"},
        ]
    }),
]  # fmt: skip


class _Asked(Value):
    """Fields that every question has."""

    name: Annotated[Key | None, Field(description="Your name for the question. It comes back with its answer.")] = None
    instructions: Annotated[Instructions, Field(description="The question, or what to look at.")]


_TYPE: Final = Field(description="The type of question.")


class Predicate(_Asked):
    """Ask how likely it is that a statement about the input is true."""

    type: Annotated[Literal["predicate"], _TYPE]


class ChoiceOption(Value):
    """One of the choices of a question."""

    value: Annotated[ChoiceValue, Field(description="The choice: a text, true or false. True is not the text `true`.")]
    description: Annotated[ShortText | None, Field(description="What the choice means.")] = None


class Choice(_Asked):
    """Ask which of these choices is right for the input."""

    type: Annotated[Literal["choice"], _TYPE]
    choices: Annotated[
        tuple[ChoiceOption, ...],
        Field(min_length=2, max_length=MAX_CHOICES, description="The choices. No two have the same value."),
        FAIL_FAST,
    ]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if (twice := _twice((type(choice.value), choice.value) for choice in self.choices)) is not None:
            raise ValueError(f"choices[{twice}] has the value of a choice before it: name each value once")
        return self


class Level(Value):
    """One of the levels of a scale."""

    label: Annotated[ShortText, Field(min_length=1, description="The name of the level.")]
    description: Annotated[ShortText | None, Field(description="What the level means.")] = None
    value: Annotated[
        Annotated[int, Field(ge=-_MAX_LEVEL, le=_MAX_LEVEL), INTEGRAL] | None,
        Field(description="The number that stands for the level in the score. By default 0, 1, 2, … in their order."),
    ] = None


class ScaleQuestion(_Asked):
    """Ask where on a scale of ordered levels the input stands."""

    type: Annotated[Literal["score"], _TYPE]
    levels: Annotated[
        tuple[Level, ...],
        Field(
            min_length=2, max_length=MAX_CHOICES, description="The levels, the lowest first, each with its own label."
        ),
        FAIL_FAST,
    ]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if (twice := _twice(level.label for level in self.levels)) is not None:
            raise ValueError(f"levels[{twice}] has the label of a level before it: name each label once")
        given = [level.value is not None for level in self.levels]
        if any(given) and not all(given):
            raise ValueError(f"levels[{given.index(False)}] has no value: give each level one, or none")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """Return the number that stands for each level."""
        return tuple(place if level.value is None else level.value for place, level in enumerate(self.levels))


Question = Annotated[Predicate | Choice | ScaleQuestion, Field(discriminator="type")]


def _twice(values: Iterator[Any]) -> int | None:
    """Return the place of the first value that stands before it, too."""
    seen: set[Any] = set()
    for place, value in enumerate(values):
        if value in seen:
            return place
        seen.add(value)
    return None


def words_of(question: Predicate | Choice | ScaleQuestion) -> Iterator[str]:
    """Return the texts that a question holds."""
    yield question.instructions
    match question:
        case Choice():
            for choice in question.choices:
                yield from (item for item in (choice.value, choice.description) if isinstance(item, str))
        case ScaleQuestion():
            for level in question.levels:
                yield from (text for text in (level.label, level.description) if text is not None)


def labels_of(question: Predicate | Choice | ScaleQuestion) -> int:
    """Return how many labels a question has, of each of which the probability is computed."""
    match question:
        case Choice():
            return len(question.choices)
        case ScaleQuestion():
            return len(question.levels)
    return 2


class Calibration(OutgoingValue):
    """How the probabilities of an answer were made of those of the model, by what was fitted to labelled data."""

    temperature: Annotated[float, Field(description="The logarithm of each probability is divided by it.")]
    bias: Annotated[
        tuple[float, ...],
        Field(
            max_length=MAX_CHOICES,
            description="What is added to the logarithm of each label, in the question's order; a predicate has true, "
            "then false. Empty: nothing is.",
        ),
    ] = ()
    raw: Annotated[
        tuple[Unit, ...],
        Field(max_length=MAX_CHOICES, description="The probabilities of the model, in the same order."),
    ]


class _Answered(OutgoingValue):
    """Fields that the answer to every question has."""

    name: Annotated[Key | None, Field(description="The name of the question, if it has one.")] = None
    mass: Annotated[
        Unit | None,
        Field(
            description="The probability that the model gave to all permitted answers together; absent if it is not "
            "known."
        ),
    ] = None
    calibrated: Annotated[bool, Field(description="True if the probabilities were calibrated on labelled data.")] = (
        False
    )
    calibration: Annotated[
        Calibration | None,
        Field(
            description="What was fitted, and the probabilities before; absent if nothing was fitted to the question."
        ),
    ] = None
    stated: Annotated[
        bool, Field(description="True if the model stated the probabilities in words, as numbers that it wrote.")
    ] = False


class PredicateAnswer(_Answered):
    """How likely it is that a statement is true."""

    type: Annotated[Literal["predicate"], _TYPE]
    probability: Annotated[Unit, Field(description="The probability that it is true.")]


class ChoiceProbability(OutgoingValue):
    """The probability of one choice."""

    value: Annotated[ChoiceValue, Field(description="The choice.")]
    probability: Annotated[Unit, Field(description="Its probability.")]


class ChoiceAnswer(_Answered):
    """The most likely choice, and the probability of each."""

    type: Annotated[Literal["choice"], _TYPE]
    choice: Annotated[ChoiceValue, Field(description="The most likely choice.")]
    confidence: Annotated[Unit, Field(description="The probability of that choice.")]
    probabilities: Annotated[
        tuple[ChoiceProbability, ...],
        Field(max_length=MAX_CHOICES, description="The probability of each choice, in the question's order."),
    ]


class LevelProbability(OutgoingValue):
    """The probability of one level."""

    label: Annotated[ShortText, Field(description="The level.")]
    probability: Annotated[Unit, Field(description="Its probability.")]
    value: Annotated[int, Field(description="The number that stands for it in the score."), INTEGRAL]


class ScoreAnswer(_Answered):
    """Where on a scale the input stands: the expectation of the levels' values."""

    type: Annotated[Literal["score"], _TYPE]
    score: Annotated[float, Field(description="The expectation: each level's value times its probability, in all.")]
    confidence: Annotated[Unit, Field(description="The probability of the most likely level.")]
    probabilities: Annotated[
        tuple[LevelProbability, ...],
        Field(max_length=MAX_CHOICES, description="The probability of each level, in the question's order."),
    ]


class RefusedAnswer(_Answered):
    """No answer: the model gave the permitted answers too little of its probability, or could not be asked."""

    type: Annotated[Literal["refusal"], _TYPE]
    reason: Annotated[
        ShortText | None,
        Field(description="Why the model could not be asked this question, such as one that does not fit its context."),
    ] = None


DecisionAnswer = Annotated[PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusedAnswer, Field(discriminator="type")]
