"""The gateway's own routes: its page for browsers, liveness, readiness, and metrics for Prometheus."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Annotated, Any, Final

from fastapi import Response
from fastapi.responses import HTMLResponse, JSONResponse

from headrace_workers.core.scopes import METRICS
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Responses
from headrace_workers.http.metrics import CONTENT_TYPE
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Wired

router = ReadsItsURL(tags=["health"])

_TEXT: Final[Responses] = {200: {"description": "Prometheus' text format.", "content": {CONTENT_TYPE: {}}}}
_PAGE: Final = files(__package__).joinpath("home_page.html").read_text(encoding="utf-8")


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
    """Return the gateway's metrics since its start, and the last metrics of the ledger and of features. Tenants have
    only pass rates here.
    """
    up = {
        "kafka": services.sink.trouble is None,
        "ledger": services.waiter.trouble is None and services.writes.trouble is None,
        "redis": not services.rates.is_unavailable,
    }
    text = services.metrics.text(waiting=services.waiter.waiting, up=up) + await services.ledger_metrics.text()
    return Response(text, media_type=CONTENT_TYPE)


def _digest_of_style(page: str) -> str:
    """Return the digest by which a content security policy names the page's one style."""
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


_HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_digest_of_style(_PAGE)}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@router.get("/", include_in_schema=False)
async def show() -> HTMLResponse:
    """Return the page that introduces this gateway and links to its documentation."""
    return HTMLResponse(_PAGE, headers=_HEADERS)
