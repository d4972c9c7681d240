"""An application's content: all that its file resolves to, and the messages that it makes of a job's variables."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.types import Strict

from headrace_schemas.application import VariableValue
from headrace_schemas.attributes import EXACT, LARGEST
from headrace_schemas.criteria import Criterion
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.limits import (
    FAIL_FAST,
    INTEGRAL,
    MAX_CRITERIA,
    MAX_ITEMS,
    MAX_MESSAGES,
    MAX_SHORT_TEXT,
    MAX_TEXT,
    MAX_VALUE_BYTES,
    MAX_VARIABLES,
    SHA256,
    Alias,
    Label,
    Name,
    NonEmptyText,
    ShortText,
    Text,
)
from headrace_schemas.message import Message, SpeakerName
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe, first_problem
from headrace_schemas.review import ApplicationReview
from headrace_workers.core.templates import BOOLEAN, MAX_STEPS, NUMBER, Shape, Template, TooLong, WrongTemplate

MAX_ENUM: Final = 1_000
_GATE: Final = re.compile(r"new >= (production( [+-] (0|1|0?\.\d+))?|0|1|0?\.\d+)")
_NAMED: Final = 10  # values of an enum, in an error

Line = Annotated[ShortText, Field(min_length=1)]


class Problem(Value):
    """The problem that the application solves, for the people who own it."""

    purpose: Annotated[Line, Field(description="What it is for, in a sentence.")]
    owner: Annotated[Line, Field(description="The person or team that answers for it.")]
    task: Annotated[Line, Field(description="The kind of task, such as `classification` or `summary`.")]
    metric: Annotated[
        Label,
        Field(
            description="The one criterion that decides whether a version is better: the name, or the kind, of one in "
            "`[test]` or `[quality]`."
        ),
    ]


class Turn(Value):
    """A message, whose text is a template."""

    role: Annotated[Literal["system", "user", "assistant"], Field(description="Who speaks.")]
    text: Annotated[NonEmptyText, Field(description="The text, a template. In the file you may give `file` instead.")]
    name: Annotated[
        SpeakerName | None, Field(description="The name of who speaks, where several speak in one role.")
    ] = None


class Variable(Value):
    """A variable of the templates. Jobs must bring a value for it unless it has a default."""

    type: Annotated[
        Literal["text", "integer", "number", "boolean", "list"],
        Field(description="The type of its values; a `list` is one of texts."),
    ]
    max_length: Annotated[
        Annotated[int, Field(ge=1, le=MAX_TEXT), INTEGRAL] | None,
        Field(
            description=f"The most characters of a text (by default {MAX_TEXT:,}), or the most items of a list (by "
            f"default {MAX_ITEMS})."
        ),
    ] = None
    enum: Annotated[
        tuple[VariableValue, ...],
        Field(max_length=MAX_ENUM, description="The only values that it may have; of a list, each item."),
        FAIL_FAST,
    ] = ()
    default: Annotated[VariableValue | None, Field(description="The value of jobs that bring none.")] = None

    @property
    def shape(self) -> Shape:
        """The bounds of its values, for templates."""
        longest = max((len(value) for value in self.enum if isinstance(value, str)), default=MAX_TEXT)
        match self.type:
            case "text":
                return Shape("text", min(self.max_length or MAX_TEXT, longest))
            case "list":
                return Shape("list", min(MAX_SHORT_TEXT, longest), self.max_length or MAX_ITEMS)
            case "boolean":
                return BOOLEAN
        return NUMBER


def _gate(text: str) -> str:
    if not _GATE.fullmatch(text):
        raise ValueError("must be `new >= production - 0.02` or `new >= 0.9`, with numbers of yours from 0 to 1")
    return text


class Test(Value):
    """The examples that a version is tested with, and the result that it must reach."""

    dataset: Annotated[
        Line, Field(description="The file of the examples, relative to this file: see `headrace evaluate`.")
    ]
    sha256: Annotated[
        str,
        StringConstraints(pattern=SHA256),
        Field(
            description="The SHA-256 of the dataset, which is part of the version. You need not give it: by default it "
            "is that of the file."
        ),
    ]
    criteria: Annotated[
        tuple[Criterion, ...],
        Field(max_length=MAX_CRITERIA, description="Criteria of the test, beside those of `[quality]`."),
        FAIL_FAST,
    ] = ()
    reference: Annotated[
        Text | None,
        Field(description="The right answer of a row, for criteria that compare: a text with `{{field}}` in it."),
    ] = None
    gate: Annotated[
        str,
        AfterValidator(_gate),
        Field(
            description="What the metric of a version must reach before it gets the label `production`: `new >= "
            "production - 0.02`, or `new >= 0.9`."
        ),
    ] = "new >= production"


class Definition(Value):
    """All that an application's file resolves to, with the texts of files beside it. `job` has the fields it sets."""

    name: Alias
    problem: Problem
    job: dict[str, Any]
    messages: Annotated[tuple[Turn, ...], Field(min_length=1, max_length=MAX_MESSAGES), FAIL_FAST]
    variables: Annotated[dict[Name, Variable], Field(max_length=MAX_VARIABLES)] = {}
    review: ApplicationReview | None = None
    test: Test | None = None

    def to_json(self) -> str:
        """Return the canonical JSON: what the file sets, the keys in order."""
        content = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote. Raise ConfigurationError."""
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise ConfigurationError(
                f"a version of an application cannot be read: {describe(error)}: was it pushed by a later headrace?"
            ) from None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The template of each message. Raise ConfigurationError."""
        try:
            return tuple(templates_of(self))
        except WrongTemplate as error:
            raise ConfigurationError(
                f"a version of the application {self.name} cannot be rendered: a message {error}: was it pushed by a "
                "later headrace?"
            ) from None


def templates_of(definition: Definition) -> Iterator[Template]:
    """Yield the template of each message. Raise WrongTemplate at the first that is wrong."""
    shapes, left = {name: variable.shape for name, variable in definition.variables.items()}, MAX_STEPS
    for turn in definition.messages:
        template = Template.with_logic(turn.text, shapes, left)
        left -= template.steps
        yield template


def render(definition: Definition, values: Mapping[str, VariableValue]) -> tuple[Message, ...]:
    """Return the application's messages for these variables. Raise InvalidRecord, which names the first wrong one."""
    given = _given(definition, values)
    messages, left = [], MAX_VALUE_BYTES
    for number, (turn, template) in enumerate(zip(definition.messages, definition.templates, strict=True), start=1):
        try:
            content = template.fill(given, min(MAX_TEXT, left))
        except TooLong as error:
            raise InvalidRecord(
                f"variables: message {number} of the application {definition.name} {error} with these: shorten them",
                param="variables",
                code="invalid_value",
            ) from None
        left -= len(content)
        messages.append(Message(role=turn.role, content=content, name=turn.name))
    return tuple(messages)


def _given(definition: Definition, values: Mapping[str, VariableValue]) -> dict[str, Any]:
    """Return the value of each variable, as templates get it."""
    for name in values:
        if name not in definition.variables:
            known = ", ".join(definition.variables) or "none"
            why = f"is no variable of the application {definition.name}; known are {known}"
            raise _refused(name, why, "unknown_parameter")
    given = {}
    for name, variable in definition.variables.items():
        value = values.get(name, variable.default)
        if value is None:
            raise _refused(
                name, f"is missing: the application {definition.name} needs it", "missing_required_parameter"
            )
        try:
            given[name] = value_of(variable, value)
        except ValueError as error:
            raise _refused(name, str(error), "invalid_value") from None
    return given


def _refused(name: str, why: str, code: str) -> InvalidRecord:
    return InvalidRecord(f"variables.{name}: {why}", param=f"variables.{name}", code=code)


def value_of(variable: Variable, value: Any) -> Any:
    """Return a value as templates get it. Raise ValueError, which says what it must be, never what it is."""
    value = _typed(variable, value)
    if variable.max_length is not None and len(value) > variable.max_length:
        noun = "items" if variable.type == "list" else "characters"
        raise ValueError(f"has {len(value):,} {noun}; the limit is {variable.max_length:,}")
    for item in value if variable.type == "list" else (value,):
        if variable.enum and item not in variable.enum:
            known = ", ".join(json.dumps(each, ensure_ascii=False) for each in variable.enum[:_NAMED])
            more = f" and {len(variable.enum) - _NAMED} more" if len(variable.enum) > _NAMED else ""
            raise ValueError(f"must be one of {known}{more}")
    return value


def _typed(variable: Variable, value: Any) -> Any:
    try:
        read = _adapter(variable.type).validate_python(value)
    except ValidationError as error:
        place, words = first_problem(error)
        raise ValueError(f"item {int(place[0]) + 1} {words}" if place else words) from None
    return value if variable.type == "number" else read  # 5 stays 5, and is not 5.0


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    types: Mapping[str, Any] = {
        "text": Text,
        "integer": Annotated[int, Field(ge=-EXACT, le=EXACT), Strict(), INTEGRAL],
        "number": Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False), Strict()],
        "boolean": Annotated[bool, Strict()],
        "list": Annotated[tuple[ShortText, ...], Field(max_length=MAX_ITEMS), FAIL_FAST],
    }
    return TypeAdapter(types[kind])
