"""People's reviews: labels, the rules by which answers are drawn for review, and decisions."""

import json
import uuid
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from headrace_schemas.application import ApplicationVersion
from headrace_schemas.limits import (
    INTEGRAL,
    MAX_CRITERIA,
    Alias,
    HazardName,
    Key,
    Label,
    Name,
    ShortText,
    Tenant,
    Text,
    WrittenJobId,
)
from headrace_schemas.model import OutgoingValue, Value
from headrace_schemas.moderation import Count, Unit
from headrace_schemas.times import Time
from headrace_schemas.uuids import Namespace

_REVIEWS: Final = Namespace(uuid.UUID("8a0e5d7c-41b6-5c2e-9f3a-7d1b60c4e9a2"))


class Review(Value):
    """A label: the person, the job, the verdict and the time. Several labels of one job are kept; none is replaced."""

    job_id: Annotated[WrittenJobId, Field(description="The job that was labelled.")]
    tenant: Annotated[Tenant, Field(description="The job's tenant.")] = "default"
    criterion: Annotated[
        Label | None, Field(description="The name of the criterion, or its kind if it has no name.")
    ] = None
    category: Annotated[HazardName | None, Field(description="The moderation category, instead of a criterion.")] = None
    label: Annotated[
        bool | None, Field(description="Whether the answer passes the criterion, or belongs to the category.")
    ] = None
    score: Annotated[float | None, Field(ge=0, le=1, description="The label by degrees, instead of `label`.")] = None
    who: Annotated[Key, Field(description="The person who labelled. Always use the same name.")]
    when: Annotated[Time, Field(description="When the person labelled.")]
    probability: Annotated[
        float | None, Field(gt=0, le=1, description="The probability with which this job was drawn to be labelled.")
    ] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.criterion is None) == (self.category is None):
            raise ValueError("a label is about a criterion or a category: give one of both")
        if (self.label is None) == (self.score is None):
            raise ValueError("a label says yes or no (label), or how far (score): give one of both")
        return self

    @property
    def kind(self) -> Literal["criterion", "category"]:
        """Return whether the label is about a criterion or a category."""
        return "category" if self.criterion is None else "criterion"

    @property
    def about(self) -> str:
        """Return the criterion or category."""
        return self.criterion or self.category or ""

    @property
    def value(self) -> float:
        """Return the label as a number from 0 to 1."""
        return float(bool(self.label)) if self.score is None else self.score

    @property
    def said_at(self) -> int:
        """Return the time of the label in ms since 1970, without finer parts of a second."""
        return int(self.when.timestamp() * 1000)

    @property
    def id(self) -> str:
        """Return the label's id: the same for the same label, however often it is sent, and another for any other
        label.
        """
        parts = [self.tenant, self.job_id, self.kind, self.about, self.value, self.who, self.said_at]
        return _REVIEWS.id_of(json.dumps(parts))


MAX_PEOPLE: Final = 10  # who review one item
MAX_RULES: Final = 32
HELD: Final = "held"  # the rule of held steps
MANUAL: Final = "manual"  # the rule of answers that people sent


class Below(Value):
    """The condition that a criterion scored an answer below a value."""

    criterion: Annotated[Label, Field(description="The name of the criterion, or its kind if it has no name.")]
    value: Annotated[float, Field(gt=0, le=1, description="Scores below this meet the condition.")]


class Disagreement(Value):
    """The condition that two judges, or a judge and a detector of moderation, disagree about an answer.

    A category of moderation counts as 1 where nothing was objected to, and as 0 where something was.
    """

    between: Annotated[
        tuple[Label | HazardName, Label | HazardName],
        Field(description="Two names of criteria or of moderation categories."),
    ]
    by: Annotated[float, Field(gt=0, le=1, description="The smallest difference that counts.")] = 0.5


def _not_reserved(name: str) -> str:
    if name == HELD:
        raise ValueError(f"{HELD} is the rule of held jobs, which headrace makes: choose another name")
    if name == MANUAL:
        raise ValueError(f"{MANUAL} is the rule of answers that people send: choose another name")
    return name


class ReviewRule(Value):
    """A rule by which ended answers are drawn for review. An answer belongs to the first rule whose condition it
    meets; a rule without a condition takes every answer. Each rule is a stratum.
    """

    name: Annotated[Alias, AfterValidator(_not_reserved), Field(description="The name of the rule, and of its queue.")]
    share: Annotated[float, Field(gt=0, le=1, description="The share of these answers that is drawn.")] = 1.0
    people: Annotated[
        int,
        Field(ge=1, le=MAX_PEOPLE, description="How many people review each of them; by default as many as of all."),
        INTEGRAL,
    ] = 1
    below: Annotated[Below | None, Field(description="A low score.")] = None
    disagreement: Annotated[Disagreement | None, Field(description="A disagreement between machines.")] = None
    tenant: Annotated[Tenant | None, Field(description="Only answers of this tenant's jobs.")] = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.below is not None and self.disagreement is not None:
            raise ValueError("a rule has one condition: give below or disagreement, and write a second rule")
        return self

    def __str__(self) -> str:
        """Return the rule in words: low (50 % of answers with helpful below 0.5, people: 2)."""
        which = ""
        if self.below is not None:
            which = f" with {self.below.criterion} below {self.below.value:g}"
        elif self.disagreement is not None:
            which = f" on which {' and '.join(self.disagreement.between)} differ by {self.disagreement.by:g}"
        whose = "" if self.tenant is None else f" of the tenant {self.tenant}"
        people = f", people: {self.people}" if "people" in self.model_fields_set else ""
        return f"{self.name} ({100 * self.share:.3g} % of answers{whose}{which}{people})"


class ApplicationReview(Value):
    """The review rules of an application, which take the place of the deployment's for its jobs."""

    rules: Annotated[tuple[ReviewRule, ...], Field(max_length=MAX_RULES, description="The rules, in their order.")]


def place_of_second(rules: Sequence[ReviewRule]) -> int | None:
    """Return the place of the first rule that has the name of one before it; None if each has its own."""
    names = [rule.name for rule in rules]
    return next((place for place, name in enumerate(names) if name in names[:place]), None)


DecisionAction = Literal["label", "release", "withhold", "correct"]


class ReviewedLabel(OutgoingValue):
    """A decision's label for one criterion, or for one category of moderation."""

    criterion: Annotated[Label | None, Field(description="The criterion.")] = None
    category: Annotated[HazardName | None, Field(description="The moderation category, instead of a criterion.")] = None
    value: Annotated[Unit, Field(description="From 0 (no) to 1 (yes).")]


class ReviewDecided(OutgoingValue):
    """A person decided about a review item. The job goes on, or ends, after this: read `results`."""

    item: Annotated[Key, Field(description="The item.")]
    job_id: Annotated[WrittenJobId, Field(description="The job.")]
    tenant: Annotated[Tenant, Field(description="The job's tenant.")]
    rule: Annotated[Alias, Field(description="The rule that drew it; `held` where the job was held.")]
    stage: Annotated[Name | None, Field(description="The stage at which the job was held; absent if it has ended.")] = (
        None
    )
    application: Annotated[
        ApplicationVersion | None, Field(description="The application, where the job named one.")
    ] = None
    action: Annotated[
        DecisionAction,
        Field(description="What was decided: labels alone, or what becomes of the held job."),
    ]
    labels: Annotated[
        tuple[ReviewedLabel, ...], Field(max_length=2 * MAX_CRITERIA, description="What the person said.")
    ] = ()
    corrected: Annotated[
        Text | None, Field(description="The text that the person wrote instead. It is moderated before it is shown.")
    ] = None
    note: Annotated[ShortText | None, Field(description="The reason, or a note.")] = None
    who: Annotated[Key, Field(description="The person: the name of the API key that signed in.")]
    revision: Annotated[Count, Field(description="1 for a person's first decision about the item, 2 for the next.")]
    undone: Annotated[bool, Field(description="True if the person took the decision before it back.")] = False
