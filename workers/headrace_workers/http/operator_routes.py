"""Routes for operators: liveness, readiness, and the metrics of this gateway for Prometheus."""

from typing import Annotated, Any, Final

from fastapi import Response
from fastapi.responses import JSONResponse

from headrace_workers.core.scopes import METRICS
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerOutage
from headrace_workers.http.metrics import CONTENT_TYPE, LedgerMetrics
from headrace_workers.http.query import ReadsItsURL
from headrace_workers.http.services import Wired
from headrace_workers.http.shapes import ANSWERS, Responses

router = ReadsItsURL(tags=["health"])

_TEXT: Final[Responses] = {200: {"description": "Prometheus' text format.", "content": {CONTENT_TYPE: {}}}}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Return 200: the process answers, even while a service that it needs does not."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "What is missing."}})
async def readyz(services: Wired) -> JSONResponse:
    """Return 200 if the gateway accepts jobs. 503 names the service that does not answer, or says that the gateway
    stops.
    """
    found: dict[str, Any] = {"kafka": services.sink.trouble or "ok", "ledger": services.writes.trouble or "ok"}
    # Without it tenants' rates are counted by each gateway, and ends are found by looking each second.
    redis = "away" if services.rates.is_unavailable else "ok"
    stopping = services.waiter.stopping
    ready = not stopping and all(state == "ok" for state in found.values())
    return JSONResponse({"ready": ready, "stopping": stopping, **found, "redis": redis}, 200 if ready else 503)


@router.get("/metrics", response_class=Response, responses={**_TEXT, **ANSWERS})
async def metrics(_caller: Annotated[Caller, needs(METRICS)], services: Wired) -> Response:
    """Return the gateway's metrics since its start, queue states and judges' scores. Tenants have only pass rates
    here.
    """
    up = {
        "kafka": services.sink.trouble is None,
        "ledger": services.waiter.trouble is None and services.writes.trouble is None,
        "redis": not services.rates.is_unavailable,
    }
    try:
        known = await services.ask(services.ledger.of(LedgerMetrics).read)
    except LedgerOutage:  # the other metrics are shown all the more
        known = []
    text = services.metrics.text(waiting=services.waiter.waiting, up=up, known=known)
    return Response(text, media_type=CONTENT_TYPE)
