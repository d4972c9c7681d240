"""Attributes of documents, and filters that select documents by them.

The shapes follow OpenAI's vector stores: the attributes of a file, comparison filters and compound filters.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, WithJsonSchema, model_validator
from pydantic.types import Strict

from headrace_schemas.limits import FAIL_FAST, INTEGRAL, NO_NUL
from headrace_schemas.model import Value

MAX_ATTRIBUTES: Final = 16
MAX_MEMBERS: Final = 64  # of a list that a value may be in
MAX_SIDE_BY_SIDE: Final = 16  # filters of one `and` or `or`
MAX_COMPARISONS: Final = 64  # of one filter in all
LONGEST_KEY: Final = 64
LONGEST_VALUE: Final = 512
LARGEST: Final = 1e300  # what every reader of JSON takes for a finite number
EXACT: Final = 2**53  # whole numbers up to here are exact for every reader


def kind_of_value(value: Any) -> str | None:
    """Return the kind of a value. True is no number, though Python takes it for one; 5.0 is the whole number 5, as JSON
    has it.
    """
    match value:
        case bool():
            return "boolean"
        case str():
            return "text"
        case int() | float():
            return "whole" if -EXACT <= value <= EXACT and value == int(value) else "number"
    return None


AttributeKey = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_KEY, pattern=NO_NUL), Strict()]
_Text = Annotated[str, StringConstraints(max_length=LONGEST_VALUE, pattern=NO_NUL), Strict()]
_Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), Strict()]
AttributeValue = Annotated[
    Annotated[bool, Strict(), Tag("boolean")]
    | Annotated[int, Strict(), INTEGRAL, Tag("whole")]
    | Annotated[_Number, Tag("number")]
    | Annotated[_Text, Tag("text")],
    Discriminator(
        kind_of_value, custom_error_type="attribute_type", custom_error_message="must be text, a number, true or false"
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_VALUE, "pattern": NO_NUL},
                {"type": "number", "minimum": -LARGEST, "maximum": LARGEST},
                {"type": "boolean"},
            ]
        }
    ),
]
AttributeMap = Mapping[str, bool | int | float | str]
Attributes = Annotated[
    dict[AttributeKey, AttributeValue],
    Field(max_length=MAX_ATTRIBUTES, description="The attributes of the document."),
]


class Equality(Value):
    """The document's value of `key` is this one (`eq`), or is not (`ne`: also where it has none).

    Values of two kinds are never the same: the text "5" is not the number 5, and true is not 1.
    """

    type: Annotated[Literal["eq", "ne"], Field(description="The comparison.")]
    key: Annotated[AttributeKey, Field(description="The attribute.")]
    value: Annotated[AttributeValue, Field(description="The value to compare with.")]


class Order(Value):
    """The document's value of `key` is greater or less than this one, as numbers are, or texts by their characters.

    Where it has none, or one of another kind, it is neither. Dates as `2026-01-31` are texts in order. Of true and
    false neither is greater.
    """

    type: Annotated[Literal["gt", "gte", "lt", "lte"], Field(description="The comparison.")]
    key: Annotated[AttributeKey, Field(description="The attribute.")]
    value: Annotated[AttributeValue, Field(description="The value to compare with.")]


class Membership(Value):
    """The document's value of `key` is one of these (`in`), or none of these (`nin`: also where it has none)."""

    type: Annotated[Literal["in", "nin"], Field(description="The comparison.")]
    key: Annotated[AttributeKey, Field(description="The attribute.")]
    value: Annotated[
        tuple[AttributeValue, ...], Field(max_length=MAX_MEMBERS, description="The values to compare with."), FAIL_FAST
    ]


Comparison = Equality | Order | Membership

_T = TypeVar("_T")


def _some(filters: tuple[_T, ...]) -> tuple[_T, ...]:
    if not filters:
        raise ValueError("holds no filter: leave it out, or compare something")
    return filters


# A filter's parts. That there is one at least is checked by hand: pydantic would say it of each wrong one, too.
_Some = (
    Field(max_length=MAX_SIDE_BY_SIDE, json_schema_extra={"minItems": 1}),
    FAIL_FAST,
    AfterValidator(_some),
)


class Inner(Value):
    """Comparisons of which all (`and`), or at least one (`or`), must hold."""

    type: Annotated[Literal["and", "or"], Field(description="Whether all must hold, or one.")]
    filters: Annotated[
        tuple[Annotated[Comparison, Field(discriminator="type")], ...], *_Some, Field(description="The parts.")
    ]


class Middle(Value):
    """Comparisons and groups of comparisons of which all, or at least one, must hold."""

    type: Annotated[Literal["and", "or"], Field(description="Whether all must hold, or one.")]
    filters: Annotated[
        tuple[Annotated[Comparison | Inner, Field(discriminator="type")], ...], *_Some, Field(description="The parts.")
    ]


class Outer(Value):
    """Filter of documents: `and` and `or` nested at most three deep, with at most 64 comparisons in all."""

    type: Annotated[Literal["and", "or"], Field(description="Whether all must hold, or one.")]
    filters: Annotated[
        tuple[Annotated[Comparison | Middle, Field(discriminator="type")], ...], *_Some, Field(description="The parts.")
    ]

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if (count := sum(1 for _ in comparisons(self))) > MAX_COMPARISONS:
            raise ValueError(f"holds {count} comparisons: at most {MAX_COMPARISONS} in all")
        return self


Compound = Inner | Middle | Outer
Filter = Annotated[Comparison | Outer, Field(discriminator="type")]
AnyFilter = Comparison | Compound  # or a part of one


def comparisons(wanted: AnyFilter) -> Iterator[Comparison]:
    """Yield all comparisons of a filter."""
    if isinstance(wanted, Inner | Middle | Outer):
        for item in wanted.filters:
            yield from comparisons(item)
    else:
        yield wanted


def matches(wanted: AnyFilter, attributes: Mapping[str, Any]) -> bool:
    """Return True if the filter selects a document with these attributes."""
    match wanted:
        case Inner() | Middle() | Outer():
            some = all if wanted.type == "and" else any
            return some(matches(item, attributes) for item in wanted.filters)
        case Equality():
            return _same(attributes.get(wanted.key), wanted.value) == (wanted.type == "eq")
        case Membership():
            found = attributes.get(wanted.key)
            return any(_same(found, item) for item in wanted.value) == (wanted.type == "in")
        case Order():
            return _ordered(wanted.type, attributes.get(wanted.key), wanted.value)


def _same(found: object, wanted: object) -> bool:
    return _rank(found) == _rank(wanted) and found == wanted


def _ordered(order: str, found: Any, wanted: Any) -> bool:
    if _rank(found) != _rank(wanted) or not isinstance(found, str | int | float) or isinstance(found, bool):
        return False
    match order:
        case "gt":
            return bool(found > wanted)
        case "gte":
            return bool(found >= wanted)
        case "lt":
            return bool(found < wanted)
        case _:
            return bool(found <= wanted)


def _rank(value: object) -> type | None:
    """Return which values may be compared."""
    if value is None or isinstance(value, bool | str):
        return type(value)
    return float
