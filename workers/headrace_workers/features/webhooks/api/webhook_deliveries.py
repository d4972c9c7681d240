"""Deliveries of webhooks over HTTP, and their redelivery."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query

from headrace_workers.features.webhooks.api.webhook_endpoints import MOST, Reads, Writes, endpoint_of
from headrace_workers.features.webhooks.api.webhook_shapes import DeliveryList, RedeliveryBody
from headrace_workers.features.webhooks.store.delivery_views import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.views import WebhookDelivery, WebhookReplay
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.openai_shapes import ERRORS
from headrace_workers.http.services import Wired

router = APIRouter(tags=["webhooks"], route_class=JSONRoute)

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
    found = await services.ask(services.ledger.of(Webhooks).deliveries, which, limit, state)
    return DeliveryList(data=[WebhookDelivery.of(each) for each in found])


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
