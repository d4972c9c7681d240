"""Labels over HTTP: what people say of answers."""

from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import NO_NUL, Key, Tenant
from headrace_schemas.review import Review
from headrace_workers.cli.durations import Moment
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.features.quality.store import Labels, Which, review_of
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Refusal, Why
from headrace_workers.http.paging import After, Limit, Page
from headrace_workers.http.services import Wired

router = APIRouter(tags=["reviews"], route_class=JSONRoute)

MOST_LABELS: Final = 500  # of one request

_Writes = Annotated[Caller, needs(REVIEWS_WRITE)]
_Criterion = Annotated[str | None, Query(pattern=NO_NUL, description="Only labels about this criterion.")]
_Category = Annotated[str | None, Query(pattern=NO_NUL, description="Only labels about this moderation category.")]
_Who = Annotated[str | None, Query(pattern=NO_NUL, description="Only labels of this person.")]
_JobId = Annotated[str | None, Query(pattern=NO_NUL, description="Only labels of this job.")]


class NewLabel(Review):
    """A label, as `headrace review import` reads it from a line."""

    model_config = ConfigDict(strict=True)

    tenant: Annotated[Tenant, Field(default_factory=str, description="The tenant of your key.")]
    who: Annotated[Key, Field(default_factory=str, description="The person who labelled; by default your key's name.")]


class NewLabels(BaseModel):
    """Labels to be taken in."""

    model_config = ConfigDict(extra="forbid")

    labels: Annotated[list[NewLabel], Field(min_length=1, max_length=MOST_LABELS)]


class RefusedLabel(BaseModel):
    """A label that was not taken in."""

    index: int = Field(description="Its place among the labels that were sent, from 0.")
    reason: str


class LabelsAdded(BaseModel):
    """Result of sending labels. A label that was there before is not new."""

    object: Literal["labels.added"] = "labels.added"
    new: int
    refused: list[RefusedLabel] = Field(description="Labels of jobs that your tenant does not have.")


class LabelShape(BaseModel):
    """A label. `item` is the review item whose decision it is; null for a label that was sent."""

    id: str
    job_id: str
    criterion: str | None
    category: str | None
    label: bool | None
    score: float | None
    who: str
    when: Moment
    probability: float | None
    item: str | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the shape of a row."""
        return cls(id=row.id, item=row.item, when=row.said_at, **review_of(row).model_dump(exclude={"tenant", "when"}))


class LabelList(Page[LabelShape]):
    """A page of labels, by criterion or category, then by job."""


class LabelsDeleted(BaseModel):
    """Labels that were deleted."""

    object: Literal["labels.deleted"] = "labels.deleted"
    deleted: int


@router.get("/v1/labels", responses=ANSWERS)
async def list_labels(
    caller: Annotated[Caller, needs(REVIEWS_READ)],
    services: Wired,
    criterion: _Criterion = None,
    category: _Category = None,
    who: _Who = None,
    job_id: _JobId = None,
    after: After = None,
    limit: Limit = 20,
) -> LabelList:
    """Return the labels of your tenant, by criterion or category, then by job."""
    which = _which(caller, criterion, category, who, job_id)
    rows = await services.ask(services.ledger.of(Labels).page, which, after, limit + 1)
    if rows is None:
        raise InvalidRecord("after: this tenant has no label of this id", param="after")
    return LabelList.of(rows, limit, LabelShape.of)


@router.post("/v1/labels", responses=ANSWERS)
async def add(asked: NewLabels, caller: _Writes, services: Wired) -> LabelsAdded:
    """Add labels. A label that is there already changes nothing, so it is safe to send them again."""
    labels = [_of_caller(label, caller, index) for index, label in enumerate(asked.labels)]
    added = await services.ask(services.ledger.of(Labels).add, labels)
    refused = [RefusedLabel(index=index, reason=reason) for index, reason in sorted(added.refused.items())]
    return LabelsAdded(new=added.new, refused=refused)


@router.delete("/v1/labels", responses=ANSWERS)
async def delete(
    caller: _Writes,
    services: Wired,
    criterion: _Criterion = None,
    category: _Category = None,
    who: _Who = None,
    job_id: _JobId = None,
) -> LabelsDeleted:
    """Delete the labels about a criterion or a category; with `who` or `job_id`, those alone. This cannot be undone."""
    if (criterion is None) == (category is None):
        raise InvalidRecord("criterion: give criterion or category, one of both", param="criterion")
    which = _which(caller, criterion, category, who, job_id)
    return LabelsDeleted(deleted=await services.ask(services.ledger.of(Labels).remove, which))


def _which(caller: Caller, criterion: str | None, category: str | None, who: str | None, job_id: str | None) -> Which:
    if criterion is not None and category is not None:
        raise InvalidRecord(
            "criterion: a label is about a criterion or a category: give one of both", param="criterion"
        )
    kind = "criterion" if criterion is not None else "category" if category is not None else None
    return Which(caller.tenant, kind, criterion if category is None else category, who, job_id)


def _of_caller(label: NewLabel, caller: Caller, index: int) -> Review:
    """Return the label with its tenant and its person. Raise 403 for another tenant's, 400 if nobody is named."""
    if label.tenant not in ("", caller.tenant):
        raise Refusal(Why.FORBIDDEN, f"labels[{index}]: this key belongs to {caller.tenant}: leave `tenant` out")
    who = label.who or caller.name
    if not who:
        raise InvalidRecord(
            f"labels[{index}].who: is missing, and no key says who labelled", param=f"labels[{index}].who"
        )
    return label.model_copy(update={"tenant": caller.tenant, "who": who})
