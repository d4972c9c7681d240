"""Bodies of requests about receivers of webhooks, and of answers that are no views."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.limits import NO_NUL
from headrace_workers.features.webhooks.views import WebhookDelivery, WebhookEndpoint
from headrace_workers.http.paging import Page

Events = Annotated[
    list[str], Field(min_length=1, max_length=64, description="`GET /v1/webhook_event_types` lists them.")
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(max_length=2_048, description="An https URL with a public address.")]


class StrictBody(BaseModel):
    """A body that refuses unknown fields by name."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EndpointOptions(StrictBody):
    """headrace's own options of an endpoint."""

    whole: Annotated[bool | None, Field(description="Send the whole receipt if it is small enough.")] = None


class NewEndpointOptions(EndpointOptions):
    """headrace's own options of an endpoint; some of them cannot change later."""

    signature: Annotated[Literal["v1", "v1a"], Field(description="HMAC-SHA256, or Ed25519.")] = "v1"


class NewEndpoint(StrictBody):
    """An endpoint to be registered."""

    event_types: Events
    name: Name
    url: Url
    headrace: NewEndpointOptions = NewEndpointOptions()


class Changes(StrictBody):
    """The changes of an endpoint; a field that is absent stays as it is."""

    event_types: Events | None = None
    name: Name | None = None
    url: Url | None = None
    headrace: EndpointOptions = EndpointOptions()


class Rotation(StrictBody):
    """The rotation of a secret; with an overlap, the old secret also signs for a day."""

    keep_old_secret_active_for_24_hours: bool = False


class Sample(StrictBody):
    """The event type of a sample."""

    event_type: Annotated[str | None, Field(description="The event type. Required.")] = None


class Reason(StrictBody):
    """The reason, for people."""

    reason: Annotated[str, Field(max_length=2_000, pattern=NO_NUL)] = "the tenant said so"


class RedeliveryBody(StrictBody):
    """The deliveries to send again: those made from `since` to before `until`, in seconds since 1970."""

    since: Annotated[int | None, Field(ge=0, le=2**40)] = None
    until: Annotated[int | None, Field(ge=0, le=2**40)] = None
    delivered: Annotated[bool, Field(description="Also accepted deliveries.")] = False
    dry_run: Annotated[bool, Field(description="Only return the number.")] = False


class EndpointList(Page[WebhookEndpoint]):
    """A page of endpoints, newest first."""


class DeletedShape(BaseModel):
    """An endpoint that was deleted."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class EventTypeList(BaseModel):
    """The event types."""

    object: Literal["list"] = "list"
    data: list[str]


class DeliveryList(BaseModel):
    """A page of deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[WebhookDelivery]
