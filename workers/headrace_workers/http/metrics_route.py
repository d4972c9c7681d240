"""The metrics of this gateway, for Prometheus."""

from typing import Annotated, Final

from fastapi import Response

from headrace_workers.core.scopes import METRICS
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerAway
from headrace_workers.http.metrics import CONTENT_TYPE, LedgerMetrics
from headrace_workers.http.query import ReadsItsURL
from headrace_workers.http.services import Wired
from headrace_workers.http.shapes import ANSWERS, Responses

router = ReadsItsURL(tags=["health"])

_TEXT: Final[Responses] = {200: {"description": "Prometheus' text format.", "content": {CONTENT_TYPE: {}}}}


@router.get("/metrics", response_class=Response, responses={**_TEXT, **ANSWERS})
async def show(_caller: Annotated[Caller, needs(METRICS)], services: Wired) -> Response:
    """Return the gateway's metrics since its start, queue states and judges' scores. Tenants have only pass rates
    here.
    """
    up = {
        "kafka": services.sink.trouble is None,
        "ledger": services.waiter.trouble is None and services.writes.trouble is None,
        "redis": not services.rates.away,
    }
    try:
        known = await services.ask(services.ledger.of(LedgerMetrics).read)
    except LedgerAway:  # the other metrics are shown all the more
        known = []
    text = services.metrics.text(waiting=services.waiter.waiting, up=up, known=known)
    return Response(text, media_type=CONTENT_TYPE)
