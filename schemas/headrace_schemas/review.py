"""Label of a person about the end of a job: whether it is right by a criterion, or falls under a category of
moderation.
"""

import json
import uuid
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from headrace_schemas.limits import HazardName, Key, Label, Tenant, WrittenJobId
from headrace_schemas.model import Value
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
