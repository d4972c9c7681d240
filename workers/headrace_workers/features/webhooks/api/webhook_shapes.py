"""What receivers of webhooks say over HTTP: bodies that are read, and what is told."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.limits import NO_NUL
from headrace_workers.features.webhooks.store.delivery_views import DeliveryView
from headrace_workers.features.webhooks.store.endpoints import Endpoint
from headrace_workers.http.paging import Page

Events = Annotated[
    list[str], Field(min_length=1, max_length=64, description="`GET /v1/webhook_event_types` lists them.")
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(max_length=2_048, description="https, and an address that the internet knows.")]


class Asked(BaseModel):
    """A body: what it does not know, it refuses by name."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Wishes(Asked):
    """What headrace adds to a receiver."""

    whole: Annotated[bool | None, Field(description="Tell it the whole receipt, where that is small enough.")] = None


class FirstWishes(Wishes):
    """What headrace adds to a receiver, and does not change later."""

    signature: Annotated[Literal["v1", "v1a"], Field(description="HMAC-SHA256, or Ed25519.")] = "v1"


class NewEndpoint(Asked):
    """A receiver that is to be registered."""

    event_types: Events
    name: Name
    url: Url
    headrace: FirstWishes = FirstWishes()


class Changes(Asked):
    """What is to be other than it is."""

    event_types: Events | None = None
    name: Name | None = None
    url: Url | None = None
    headrace: Wishes = Wishes()


class Rotation(Asked):
    """Whether the old secret signs for a day, too."""

    keep_old_secret_active_for_24_hours: bool = False


class Sample(Asked):
    """Which event a sample is of."""

    event_type: Annotated[str | None, Field(description="It must be given.")] = None


class Reason(Asked):
    """Why, for people."""

    reason: Annotated[str, Field(max_length=2_000, pattern=NO_NUL)] = "the tenant said so"


class Again(Asked):
    """Which deliveries are to be sent again: those made from `since` to before `until`, in seconds since 1970."""

    since: Annotated[int | None, Field(ge=0, le=2**40)] = None
    until: Annotated[int | None, Field(ge=0, le=2**40)] = None
    delivered: Annotated[bool, Field(description="Also what was taken.")] = False
    dry_run: Annotated[bool, Field(description="Only say how many there are.")] = False


class EndpointShape(BaseModel):
    """A receiver."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str | None
    whole: bool
    disabled: str | None
    failures: int


class EndpointWithSecret(EndpointShape):
    """A receiver, with the secret that is shown this once."""

    signing_secret: str


class EndpointList(Page[EndpointShape]):
    """A page of receivers, newest first."""


class DeletedShape(BaseModel):
    """A receiver that is forgotten."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class SampleShape(BaseModel):
    """What a receiver said to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    """The events that there are."""

    object: Literal["list"] = "list"
    data: list[str]


class DeliveryShape(BaseModel):
    """What a receiver was told, and what came of it. Times are seconds since 1970."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    event_type: str
    subject: str
    state: Literal["pending", "delivered", "failed", "dropped"]
    attempts: int
    created_at: int
    attempted_at: int | None
    next_at: int | None
    status_code: int | None
    error: str | None
    answer: str | None


class DeliveryList(BaseModel):
    """Deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryShape]


class AgainShape(BaseModel):
    """How many there were to send again, and how many were; `just_now` were sent again less than ten minutes ago."""

    object: Literal["webhook_endpoint.replay"] = "webhook_endpoint.replay"
    failed: int
    delivered: int
    just_now: int
    sent: int


def endpoint_shape(endpoint: Endpoint) -> dict[str, Any]:
    """What is told of a receiver, by name."""
    return {
        "id": endpoint.id,
        "created_at": endpoint.created_at // 1000,
        "updated_at": endpoint.updated_at // 1000,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.events),
        "signing_secret_hint": endpoint.hint,
        "whole": endpoint.whole,
        "disabled": endpoint.disabled,
        "failures": endpoint.failures,
    }


def delivery_shape(found: DeliveryView) -> DeliveryShape:
    """What is told of a delivery."""
    return DeliveryShape(
        id=found.id,
        event_type=found.type,
        subject=found.subject,
        state=found.state,
        attempts=found.attempts,
        created_at=found.created_at // 1000,
        attempted_at=_seconds(found.attempted_at),
        next_at=_seconds(found.next_at),
        status_code=found.status,
        error=found.error,
        answer=found.answer,
    )


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
