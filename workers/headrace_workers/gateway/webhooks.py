"""Receivers of webhooks over HTTP: OpenAI's resource `webhooks`, and beside it what became of deliveries."""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.callback import WEBHOOK_EVENTS
from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.gateway.caller import Caller, needs
from headrace_workers.gateway.errors import Refusal, Why
from headrace_workers.gateway.openai_shapes import ERRORS
from headrace_workers.gateway.scopes import Scope
from headrace_workers.gateway.services import Services, Wired
from headrace_workers.ledger.deliveries import DeliveryView, Range
from headrace_workers.ledger.endpoints import Endpoint
from headrace_workers.webhooks import registering
from headrace_workers.webhooks.courier import Courier
from headrace_workers.webhooks.reach import Reach
from headrace_workers.webhooks.sealing import Sealer

router = APIRouter(tags=["webhooks"])

Reads = Annotated[Caller, needs(Scope.WEBHOOKS_READ)]
Writes = Annotated[Caller, needs(Scope.WEBHOOKS_WRITE)]

_MOST: Final = 100  # of a page
_PIECES: Final = 100  # calls of one replay: 500 deliveries each
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)
P = ParamSpec("P")
T = TypeVar("T")

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

    reason: Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")] = "the tenant said so"


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


class EndpointList(BaseModel):
    """A page of receivers, newest first."""

    object: Literal["list"] = "list"
    data: list[EndpointShape]
    first_id: str | None
    last_id: str | None
    has_more: bool


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
    state: Literal["pending", "delivered", "failed"]
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


@router.get("/v1/webhook_event_types", responses=ERRORS)
async def event_types(_caller: Reads) -> EventTypeList:
    """The events that a receiver may ask to hear of."""
    return EventTypeList(data=list(WEBHOOK_EVENTS))


@router.post("/v1/webhook_endpoints", responses=ERRORS)
async def create(asked: NewEndpoint, caller: Writes, services: Wired) -> EndpointWithSecret:
    """Register a receiver. Its secret is in the answer, and in no other."""
    wanted = registering.Wanted(
        tenant=caller.tenant,
        url=asked.url,
        events=tuple(dict.fromkeys(asked.event_types)),
        name=asked.name,
        whole=bool(asked.headrace.whole),
        scheme=asked.headrace.signature,
    )
    made = await _ask(
        services, registering.register, services.ledger.webhooks, _sealer(services), _reach(services), wanted
    )
    return EndpointWithSecret(**_shape(made.endpoint), signing_secret=made.secret)


@router.get("/v1/webhook_endpoints", responses=ERRORS)
async def list_endpoints(
    caller: Reads,
    services: Wired,
    after: Annotated[
        str | None, Query(max_length=36, pattern=r"^[A-Za-z0-9_-]+$", description="The last of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="How many at most.")] = 20,
) -> EndpointList:
    """The tenant's receivers, newest first."""
    found = await services.ask(
        services.ledger.webhooks.endpoints, caller.tenant, limit + 1, after, origins=("registered",)
    )
    data = [EndpointShape(**_shape(each)) for each in found[:limit]]
    return EndpointList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def show(endpoint_id: str, caller: Reads, services: Wired) -> EndpointShape:
    """One receiver."""
    return EndpointShape(**_shape(await _found(services, caller, endpoint_id)))


@router.post("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def update(endpoint_id: str, asked: Changes, caller: Writes, services: Wired) -> EndpointShape:
    """Change a receiver: what is absent stays."""
    found = await _found(services, caller, endpoint_id)
    changed = await _ask(
        services, registering.change, services.ledger.webhooks, _reach(services), found,
        name=asked.name, url=asked.url, whole=asked.headrace.whole,
        events=None if asked.event_types is None else tuple(dict.fromkeys(asked.event_types)),
    )  # fmt: skip
    return EndpointShape(**_shape(changed or found))


@router.delete("/v1/webhook_endpoints/{endpoint_id}", responses=ERRORS)
async def delete(endpoint_id: str, caller: Writes, services: Wired) -> DeletedShape:
    """Forget a receiver. What is still to be sent to it will not be."""
    await _found(services, caller, endpoint_id)
    await services.ask(services.ledger.webhooks.remove, endpoint_id)
    return DeletedShape(id=endpoint_id)


@router.post("/v1/webhook_endpoints/{endpoint_id}/rotate_secret", responses=ERRORS)
async def rotate_secret(
    endpoint_id: str, caller: Writes, services: Wired, asked: Rotation | None = None
) -> EndpointWithSecret:
    """Sign with a new secret, which is in the answer; for a day with the old one, too, where that is asked for."""
    found = await _found(services, caller, endpoint_id)
    overlap = registering.OVERLAP if asked and asked.keep_old_secret_active_for_24_hours else 0.0
    made = await _ask(services, registering.rotate, services.ledger.webhooks, _sealer(services), found, overlap)
    if made is None:
        raise _missing()
    return EndpointWithSecret(**_shape(made.endpoint), signing_secret=made.secret)


@router.post("/v1/webhook_endpoints/{endpoint_id}/test", responses=ERRORS)
async def try_out(endpoint_id: str, asked: Sample, caller: Writes, services: Wired) -> SampleShape:
    """Send a sample of an event now, and tell what the receiver says. Nothing is noted of it."""
    found = await _found(services, caller, endpoint_id)
    if asked.event_type is None or asked.event_type not in WEBHOOK_EVENTS:
        raise Refusal(Why.INVALID, f"event_type: there are {', '.join(WEBHOOK_EVENTS)}")
    courier = _courier(_reach(services))
    try:
        reply = await asyncio.to_thread(
            registering.try_out, services.ledger.webhooks, _sealer(services), courier, found, asked.event_type
        )
    except HeadraceError as error:
        raise _told(error) from error
    if reply.status is None:
        raise Refusal(Why.INVALID, f"the endpoint was not reached: {reply.error}", again=False)
    return SampleShape(webhook_endpoint_id=endpoint_id, event_type=asked.event_type, status_code=reply.status)


@router.post("/v1/webhook_endpoints/{endpoint_id}/enable", responses=ERRORS)
async def enable(endpoint_id: str, caller: Writes, services: Wired) -> EndpointShape:
    """Tell a receiver again, as if nothing had failed; what waited for it goes out at once."""
    await _found(services, caller, endpoint_id)
    await services.ask(services.ledger.webhooks.enable, endpoint_id)
    services.ring()
    return EndpointShape(**_shape(await _found(services, caller, endpoint_id)))


@router.post("/v1/webhook_endpoints/{endpoint_id}/disable", responses=ERRORS)
async def disable(endpoint_id: str, caller: Writes, services: Wired, asked: Reason | None = None) -> EndpointShape:
    """Tell a receiver nothing more."""
    await _found(services, caller, endpoint_id)
    await services.ask(services.ledger.webhooks.disable, endpoint_id, (asked or Reason()).reason)
    return EndpointShape(**_shape(await _found(services, caller, endpoint_id)))


@router.get("/v1/webhook_endpoints/{endpoint_id}/deliveries", responses=ERRORS)
async def deliveries(
    endpoint_id: str,
    caller: Reads,
    services: Wired,
    state: Annotated[
        Literal["pending", "delivered", "failed"] | None, Query(description="Only those that stand so.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="How many at most.")] = 20,
    since: Annotated[int | None, Query(ge=0, le=2**40, description="Made from then on: seconds since 1970.")] = None,
    until: Annotated[int | None, Query(ge=0, le=2**40, description="Made before then.")] = None,
) -> DeliveryList:
    """What a receiver was told, newest first, and what it said."""
    await _found(services, caller, endpoint_id)
    which = Range(endpoint_id=endpoint_id, since=_ms(since), until=_ms(until))
    found = await services.ask(services.ledger.webhooks.deliveries, which, limit, state)
    return DeliveryList(data=[_delivery(each) for each in found])


@router.post("/v1/webhook_endpoints/{endpoint_id}/replay", responses=ERRORS)
async def replay(endpoint_id: str, caller: Writes, services: Wired, asked: Again | None = None) -> AgainShape:
    """Send again what failed, under the ids that it had. What was sent again less than ten minutes ago is left out, so
    that a double click sends nothing twice; `dry_run` only counts.
    """
    await _found(services, caller, endpoint_id)
    asked = asked or Again()
    webhooks = services.ledger.webhooks
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
    return AgainShape(failed=shown.failed, delivered=shown.delivered, just_now=shown.just_now, sent=sent)


async def _ask(services: Services, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `services.ask`; what is wrong with the request is told as such."""
    try:
        return await services.ask(call, *args, **kwargs)
    except HeadraceError as error:
        raise _told(error) from error


def _told(error: HeadraceError) -> HeadraceError:
    return Refusal(Why.INVALID, str(error)) if error.category is Category.INVALID else error


async def _found(services: Services, caller: Caller, endpoint_id: str) -> Endpoint:
    if not _ID.fullmatch(endpoint_id):
        raise _missing()
    found = await services.ask(services.ledger.webhooks.endpoint, endpoint_id, caller.tenant)
    if found is None or found.origin != "registered":
        raise _missing()
    return found


def _missing() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no webhook endpoint of this id")


def _sealer(services: Services) -> Sealer:
    return Sealer(services.settings.webhook_key)


def _reach(services: Services) -> Reach:
    return services.settings.webhook_reach


@lru_cache
def _courier(reach: Reach) -> Courier:
    """The one of this process."""
    return Courier(reach)


def _shape(endpoint: Endpoint) -> dict[str, Any]:
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


def _delivery(found: DeliveryView) -> DeliveryShape:
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


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
