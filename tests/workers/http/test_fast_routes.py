import asyncio
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from headrace_workers.core.scopes import JOBS_READ, Scope
from headrace_workers.http import routes as room
from headrace_workers.http.routes import FastRoute, Shortcut, fast_route
from headrace_workers.wiring.gateway_app import ROUTERS

router = APIRouter(route_class=fast_route(JOBS_READ))


@router.get("/things/{thing}")
async def show(
    thing: str,
    request: Request,
    caller: str,
    services: str,
    wait: Annotated[float, Query(ge=0, le=60)] = 0.0,
    trace: Annotated[str | None, Header()] = None,
    key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> Response:
    return Response(f"{thing} {caller} {services} {wait} {trace} {key}")


@router.post("/things")
async def add(request: Request, caller: str, services: str) -> Response:
    return Response(f"{len(await request.body())} bytes")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    """Of an application that has those routes, and says of all else that it went on."""

    async def caller_of(_request: Request, key: str | None, scope: Scope) -> str:
        return f"{key}:{scope}"

    async def on(scope, receive, send):
        await Response("went on")(scope, receive, send)

    async def tell(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Response(str(error.errors()[0]["loc"]), 400)

    def around(app):
        async def mark(scope, receive, send):
            scope["app"] = SimpleNamespace(state=SimpleNamespace(services="services"))
            await app(scope, receive, send)

        return mark

    monkeypatch.setattr(room, "caller_of", caller_of)
    routes = [route for route in router.routes if isinstance(route, FastRoute)]
    app = Shortcut(on, routes, tell=tell, around=around)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


def ask(client: httpx.AsyncClient, method: str, path: str, **options) -> tuple[int, str]:
    async def asked():
        async with client:
            return await client.request(method, path, **options)

    told = asyncio.run(asked())
    return told.status_code, told.text


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "/things/a", "a k:jobs:read services 0.0 None None"),
        ("GET", "/things/a?wait=2.5", "a k:jobs:read services 2.5 None None"),
        ("GET", "/things/%7Bthing%7D", "{thing} k:jobs:read services 0.0 None None"),
        ("POST", "/things", "3 bytes"),
        ("DELETE", "/things/a", "went on"),
        ("POST", "/things/a", "went on"),
        ("GET", "/things", "went on"),
        ("GET", "/things/a/b", "went on"),
        ("GET", "/other", "went on"),
    ],
)
def test_a_request_is_led_to_its_route_or_on(client: httpx.AsyncClient, method: str, path: str, text: str):
    body = {"content": b"abc"} if method == "POST" else {}
    assert ask(client, method, path, headers={"authorization": "Bearer k"}, **body) == (200, text)


def test_headers_are_handed_on_as_they_are(client: httpx.AsyncClient):
    headers = {"authorization": "Bearer k", "trace": "t", "idempotency-key": "i"}
    assert ask(client, "GET", "/things/a", headers=headers) == (200, "a k:jobs:read services 0.0 t i")


@pytest.mark.parametrize("wait", ["soon", "-1", "61", "nan", ""])
def test_what_the_url_says_is_checked(client: httpx.AsyncClient, wait: str):
    """And what is wrong is told as FastAPI would."""
    assert ask(client, "GET", f"/things/a?wait={wait}") == (400, "('query', 'wait')")


def test_what_is_asked_for_often_is_direct():
    paths = {route.path for router in ROUTERS for route in router.routes if isinstance(route, FastRoute)}
    assert paths >= {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/chat/completions", "/v1/embeddings"}
