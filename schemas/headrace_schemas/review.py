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

    job_id: WrittenJobId
    tenant: Tenant = "default"
    criterion: Annotated[Label | None, Field(description="The criterion's name, or its kind where it has none.")] = None
    category: Annotated[HazardName | None, Field(description="The category of moderation.")] = None
    label: Annotated[bool | None, Field(description="Right by the criterion, or of the category: yes or no.")] = None
    score: Annotated[float | None, Field(ge=0, le=1, description="The same by degrees.")] = None
    who: Annotated[Key, Field(description="The person, in any words that are always the same.")]
    when: Time
    probability: Annotated[
        float | None, Field(gt=0, le=1, description="With which this job was drawn to be labelled.")
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
        said = [self.tenant, self.job_id, self.kind, self.about, self.value, self.who, self.said_at]
        return _REVIEWS.id_of(json.dumps(said))
