"""Webhooks over HTTP: OpenAI's resource `webhooks`, and headrace's deliveries and replays."""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Final, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.callback import WEBHOOK_EVENTS
from headrace_schemas.errors import Category, HeadraceError
from headrace_schemas.limits import NO_NUL
from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.webhooks import registering
from headrace_workers.features.webhooks.feature import WEBHOOKS_READ, WEBHOOKS_WRITE
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.endpoints import Endpoint
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.features.webhooks.views import (
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookReplay,
    WebhookSample,
)
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.openai import ERRORS
from headrace_workers.http.paging import Page
from headrace_workers.http.services import Services, Wired

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


MOST: Final = 100  # of a page
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)

Reads = Annotated[Caller, needs(WEBHOOKS_READ)]
Writes = Annotated[Caller, needs(WEBHOOKS_WRITE)]


async def endpoint_of(services: Services, caller: Caller, endpoint_id: str) -> Endpoint:
    """Return an endpoint of the caller's. Raise 404 if there is none of this id."""
    if not _ID.fullmatch(endpoint_id):
        raise no_endpoint()
    endpoint = await services.ask(services.ledger.of(Webhooks).endpoint, endpoint_id, caller.tenant)
    if endpoint is None or endpoint.origin != "registered":
        raise no_endpoint()
    return endpoint


def no_endpoint() -> Refusal:
    """Return the refusal (404) for an unknown endpoint."""
    return Refusal(Why.NOT_FOUND, "this tenant has no webhook endpoint of this id", param="webhook_endpoint_id")


router = APIRouter(tags=["webhooks"], route_class=JSONRoute)

P = ParamSpec("P")
T = TypeVar("T")


@router.get("/v1/webhook_event_types", responses=ERRORS)
async def event_types(_caller: Reads) -> EventTypeList:
    """Return the event types to which an endpoint may subscribe."""
    return EventTypeList(data=list(WEBHOOK_EVENTS))


@router.post("/v1/webhook_endpoints", responses=ERRORS)
async def create(asked: NewEndpoint, caller: Writes, services: Wired) -> WebhookEndpointWithSecret:
    """Register an endpoint. Only this response contains its secret."""
    if asked.headrace.whole:
        caller.need(JOBS_READ, "headrace.whole")
    wanted = registering.Wanted(
        tenant=caller.tenant,
        url=asked.url,
        events=tuple(dict.fromkeys(asked.event_types)),
        name=asked.name,
        whole=bool(asked.headrace.whole),
        scheme=asked.headrace.signature,
    )
    made = await _ask(
        services, registering.register, services.ledger.of(Webhooks), _sealer(services), _reach(services), wanted
    )
    return WebhookEndpointWithSecret.made(made)


@router.get("/v1/webhook_endpoints", responses=ERRORS)
async def list_endpoints(
    caller: Reads,
    services: Wired,
    after: Annotated[
        str | None,
        Query(max_length=36, pattern=r"^[A-Za-z0-9_-]+$", description="The id of the last item of the previous page."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="The number of items on a page.")] = 20,
) -> EndpointList:
    """Return the tenant's endpoints, newest first."""
    if after is not None:
        await endpoint_of(services, caller, after)
    endpoints = await services.ask(
        services.ledger.of(Webhooks).endpoints, caller.tenant, limit + 1, after, origins=("registered",)
    )
    return EndpointList.of(endpoints, limit, WebhookEndpoint.of)


@router.get("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def show(endpoint_id: str, caller: Reads, services: Wired) -> WebhookEndpoint:
    """Return an endpoint."""
    return WebhookEndpoint.of(await endpoint_of(services, caller, endpoint_id))


@router.post("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def update(endpoint_id: str, asked: Changes, caller: Writes, services: Wired) -> WebhookEndpoint:
    """Change an endpoint. Absent fields stay as they are."""
    endpoint = await endpoint_of(services, caller, endpoint_id)
    if endpoint.whole if asked.headrace.whole is None else asked.headrace.whole:
        caller.need(JOBS_READ, "headrace.whole")
    changed = await _ask(
        services, registering.change, services.ledger.of(Webhooks), _reach(services), endpoint,
        name=asked.name, url=asked.url, whole=asked.headrace.whole,
        events=None if asked.event_types is None else tuple(dict.fromkeys(asked.event_types)),
    )  # fmt: skip
    return WebhookEndpoint.of(changed or endpoint)


@router.delete("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def delete(endpoint_id: str, caller: Writes, services: Wired) -> DeletedShape:
    """Delete an endpoint. Deliveries that are still pending are not sent."""
    await endpoint_of(services, caller, endpoint_id)
    await services.ask(services.ledger.of(Webhooks).remove, endpoint_id)
    return DeletedShape(id=endpoint_id)


@router.post("/v1/webhook_endpoints/{endpoint_id}/rotate_secret", responses=ERRORS)
async def rotate_secret(
    endpoint_id: str, caller: Writes, services: Wired, asked: Rotation | None = None
) -> WebhookEndpointWithSecret:
    """Sign with a new secret, which is in the response. On request, the old secret also signs for a day."""
    endpoint = await endpoint_of(services, caller, endpoint_id)
    overlap = registering.OVERLAP if asked and asked.keep_old_secret_active_for_24_hours else 0.0
    made = await _ask(services, registering.rotate, services.ledger.of(Webhooks), _sealer(services), endpoint, overlap)
    if made is None:
        raise no_endpoint()
    return WebhookEndpointWithSecret.made(made)


@router.post("/v1/webhook_endpoints/{endpoint_id}/test", responses=ERRORS)
async def try_out(endpoint_id: str, asked: Sample, caller: Writes, services: Wired) -> WebhookSample:
    """Send a sample of an event now, and return the receiver's response. The sample is not recorded."""
    endpoint = await endpoint_of(services, caller, endpoint_id)
    if asked.event_type is None or asked.event_type not in WEBHOOK_EVENTS:
        raise Refusal(Why.INVALID, f"event_type: must be one of {', '.join(WEBHOOK_EVENTS)}", param="event_type")
    sender = _sender(_reach(services))
    try:
        reply = await asyncio.to_thread(
            registering.try_out, services.ledger.of(Webhooks), _sealer(services), sender, endpoint, asked.event_type
        )
    except HeadraceError as error:
        raise _public_error(error) from error
    if reply.status is None:
        raise Refusal(Why.INVALID, f"the endpoint was not reached: {reply.error}", should_retry=False)
    return WebhookSample.of(endpoint_id, asked.event_type, reply)


@router.post("/v1/webhook_endpoints/{endpoint_id}/enable", responses=ERRORS)
async def enable(endpoint_id: str, caller: Writes, services: Wired) -> WebhookEndpoint:
    """Enable an endpoint and clear its failures. Its pending deliveries are sent at once."""
    await endpoint_of(services, caller, endpoint_id)
    await services.ask(services.ledger.of(Webhooks).enable, endpoint_id)
    services.ring()
    return WebhookEndpoint.of(await endpoint_of(services, caller, endpoint_id))


@router.post("/v1/webhook_endpoints/{endpoint_id}/disable", responses=ERRORS)
async def disable(endpoint_id: str, caller: Writes, services: Wired, asked: Reason | None = None) -> WebhookEndpoint:
    """Disable an endpoint: it gets nothing until it is enabled again."""
    await endpoint_of(services, caller, endpoint_id)
    await services.ask(services.ledger.of(Webhooks).disable, endpoint_id, (asked or Reason()).reason)
    return WebhookEndpoint.of(await endpoint_of(services, caller, endpoint_id))


async def _ask(services: Services, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the ledger's answer as `services.ask` does; errors of the request become refusals."""
    try:
        return await services.ask(call, *args, **kwargs)
    except HeadraceError as error:
        raise _public_error(error) from error


def _public_error(error: HeadraceError) -> HeadraceError:
    if error.category is not Category.INVALID:
        return error
    return Refusal(Why.INVALID, str(error), param=error.param)


def _sealer(services: Services) -> Sealer:
    return Sealer(services.settings.of(SealingSettings).webhook_key)


def _reach(services: Services) -> Reach:
    return services.settings.of(WebhookSettings).reach


@lru_cache
def _sender(reach: Reach) -> Sender:
    """Return the sender of this process."""
    return Sender(reach)


_PIECES: Final = 100  # calls of one replay: 500 deliveries each


@router.get("/v1/webhook_endpoints/{endpoint_id}/deliveries", responses=ERRORS)
async def deliveries(
    endpoint_id: str,
    caller: Reads,
    services: Wired,
    state: Annotated[
        Literal["pending", "delivered", "failed", "dropped"] | None,
        Query(description="Only deliveries with this status."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="The number of items on a page.")] = 20,
    since: Annotated[
        int | None,
        Query(ge=0, le=2**40, description="Only deliveries made at or after this time (seconds since 1970)."),
    ] = None,
    until: Annotated[
        int | None, Query(ge=0, le=2**40, description="Only deliveries made before this time (seconds since 1970).")
    ] = None,
) -> DeliveryList:
    """Return the deliveries to an endpoint, newest first, with its responses."""
    await endpoint_of(services, caller, endpoint_id)
    which = Range(endpoint_id=endpoint_id, since=_ms(since), until=_ms(until))
    views = await services.ask(services.ledger.of(Webhooks).deliveries, which, limit, state)
    return DeliveryList(data=[WebhookDelivery.of(view) for view in views])


@router.post("/v1/webhook_endpoints/{endpoint_id}/replay", responses=ERRORS)
async def replay(
    endpoint_id: str, caller: Writes, services: Wired, asked: RedeliveryBody | None = None
) -> WebhookReplay:
    """Send failed deliveries again, with the same ids; `dry_run` only counts them. A delivery that was sent again less
    than ten minutes ago is left out.
    """
    await endpoint_of(services, caller, endpoint_id)
    asked = asked or RedeliveryBody()
    webhooks = services.ledger.of(Webhooks)
    which = Range(endpoint_id=endpoint_id, since=_ms(asked.since), until=_ms(asked.until))
    shown = await services.ask(webhooks.preview, which, delivered=asked.delivered)
    sent = 0
    for _ in range(0 if asked.dry_run else _PIECES):
        done = await services.ask(webhooks.replay, which, delivered=asked.delivered)
        sent += done
        if not done:
            break
    if sent:
        services.ring()
    return WebhookReplay.of(shown, sent)


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
