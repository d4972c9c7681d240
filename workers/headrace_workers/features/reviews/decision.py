"""A person's decision about a review item: what it may say, and the errors of those that cannot be taken. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic.types import Strict

from headrace_schemas.errors import Category, HeadraceError, UnknownResource
from headrace_schemas.limits import FAIL_FAST, INTEGRAL, MAX_CRITERIA, MAX_TEXT, NO_NUL, ShortText
from headrace_schemas.model import Value
from headrace_schemas.reasons import invalid_record
from headrace_schemas.review import DecisionAction, ReviewedLabel

_MOST_REVISIONS = 1_000


class Person(NamedTuple):
    """A person who reviews: their tenant and name, and the API key that signed in; "" on the command line."""

    tenant: str
    who: str
    key_id: str = ""


class NoSuchItem(UnknownResource):
    """A review item that the person's tenant does not have."""


class Conflict(HeadraceError):
    """A decision that cannot be taken as things are: the message says why, and what the person may do."""

    category = Category.CONFLICT


class GivenLabel(ReviewedLabel, extra="forbid"):
    """A person's label for one criterion, or for one category of moderation."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.criterion is None) == (self.category is None):
            raise ValueError("a label is about a criterion or a category: give one of both")
        return self


class Decision(Value):
    """A person's decision about an item, with the number of their lease."""

    action: Annotated[
        DecisionAction, Field(description="`label` for an answer; `release`, `withhold` or `correct` for a held job.")
    ] = "label"
    labels: Annotated[
        tuple[GivenLabel, ...],
        Field(max_length=2 * MAX_CRITERIA, description="What you say by each criterion or category."),
        FAIL_FAST,
    ] = ()
    corrected: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=NO_NUL), Strict()] | None,
        Field(description="The text that is to be shown instead. It is moderated first."),
    ] = None
    recall: Annotated[
        bool, Strict(), Field(description="True to withdraw the cached copies of the answer; only with `label`.")
    ] = False
    note: Annotated[
        ShortText | None, Field(description="The reason, or a note. The sender of a withheld job reads it.")
    ] = None
    lease: Annotated[
        Annotated[int, Field(ge=0, lt=2**63), INTEGRAL] | None,
        Field(description="The number of your lease. A revision needs none."),
    ] = None
    revision: Annotated[
        int,
        Field(ge=1, le=_MOST_REVISIONS, description="1 for your first decision about the item, 2 for the next."),
        INTEGRAL,
    ] = 1

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.action == "correct") != (self.corrected is not None):
            raise ValueError("corrected is given exactly with the action correct")
        if self.action == "label" and not self.labels:
            raise ValueError("labels is empty: give a label, or skip the item")
        if self.recall and self.action != "label":
            raise ValueError("recall is for answers that have ended: give it with the action label")
        about = [(label.criterion, label.category) for label in self.labels]
        if len(set(about)) < len(about):
            raise ValueError("labels names a criterion or category twice: name each once")
        return self

    @property
    def content(self) -> str:
        """Return what the decision says, as JSON: the same for the same decision, under whichever lease."""
        return self.model_dump_json(exclude={"lease", "revision"}, exclude_none=True)


def decision_of(fields: Mapping[str, Any]) -> Decision:
    """Return the decision that these fields make. Raise InvalidRecord, which says what is wrong with which of them."""
    try:
        return Decision.model_validate(dict(fields))
    except ValidationError as error:
        raise invalid_record(error) from None
