"""Liveness and readiness of this gateway."""

from typing import Any

from fastapi.responses import JSONResponse

from headrace_workers.http.errors import Refusal
from headrace_workers.http.query import ReadsItsURL
from headrace_workers.http.services import Wired

router = ReadsItsURL(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Return 200 as long as the process answers, even if a service that it needs does not."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "What is missing."}})
async def readyz(services: Wired) -> JSONResponse:
    """Return 200 if the gateway accepts jobs. 503 names the service that does not answer, or says that the gateway is
    stopping.
    """
    found: dict[str, Any] = {"kafka": services.sink.trouble or "ok", "ledger": "ok"}
    if services.writes.trouble is not None:
        found["ledger"] = services.writes.trouble
    else:
        try:
            await services.ask(services.ledger.now)
        except Refusal as error:
            found["ledger"] = str(error)
    # Without it tenants' rates are counted by each gateway, and ends are found by looking each second.
    redis = "away" if services.rates.away else "ok"
    stopping = services.waiter.stopping
    ready = not stopping and all(said == "ok" for said in found.values())
    return JSONResponse({"ready": ready, "stopping": stopping, **found, "redis": redis}, 200 if ready else 503)
