"""Sign-in and sign-out, and what every page loads."""

from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import Query, Request
from starlette.responses import Response

from headrace_workers.features.console.frame import STATIC, TYPES, OpenRoute, go_to, page
from headrace_workers.features.console.visitors import CONSOLE, Visitors
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Wired

router = ReadsItsURL(prefix=CONSOLE, route_class=OpenRoute, include_in_schema=False)
_LONGEST_NAME: Final = 100
_MOST_FIELDS: Final = 400
_USED: Final = (
    "This address was used already, or has expired. Sign in with an API key, or start `headrace up` again for a new "
    "address."
)


async def form_of(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form. Raise 400 where the body is none."""
    try:
        fields = parse_qsl(
            (await request.body()).decode("ascii"), True, True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise Refusal(Why.INVALID, "the form cannot be read: send it from a page of the console") from None
    # Browsers send line feeds as CRLF.
    return [(name, value.replace("\r\n", "\n")) for name, value in fields]


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the first page."""
    return go_to(request, "playground/")


@router.get("/")
async def first(request: Request) -> Response:
    """Lead to the first page."""
    return go_to(request, "playground/")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return a file that pages load. Its address changes with its content."""
    content = STATIC.get(name)
    if content is None:
        raise Refusal(Why.NOT_FOUND, "there is no such file")
    headers = {"cache-control": "private, max-age=31536000, immutable"}
    return Response(content, headers=headers, media_type=TYPES[name.rpartition(".")[2]])


@router.get("/sign-in")
async def ask(request: Request, services: Wired, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Show the form, or sign in the holder of a token that `headrace up` printed."""
    visitors = services.of(Visitors)
    if not token or request.scope["headrace"].method == "HEAD":  # which must not use the token up
        return page(request, "sign_in.html", name="", fault="")
    secret = await visitors.redeem(request, services, token)
    if secret is None:
        return page(request, "sign_in.html", status=401, name="", fault=_USED)
    response = go_to(request, "playground/")
    visitors.keep(request, response, secret)
    return response


@router.post("/sign-in")
async def sign_in(request: Request, services: Wired) -> Response:
    """Sign in with a name and an API key."""
    fields = dict(await form_of(request))
    name, key = " ".join(fields.get("name", "").split())[:_LONGEST_NAME], fields.get("key", "").strip()
    visitors = services.of(Visitors)
    if not name:
        return page(
            request,
            "sign_in.html",
            status=400,
            name="",
            fault="Say your name: decisions are signed with it where the key has none.",
        )
    try:
        secret = await visitors.sign_in(request, services, name, key)
    except Refusal as refusal:
        if refusal.why is not Why.UNAUTHORIZED:
            raise
        fault = "This API key is not valid: it is mistyped, revoked, or has expired."
        return page(request, "sign_in.html", status=401, name=name, fault=fault)
    response = go_to(request, "playground/")
    visitors.keep(request, response, secret)
    return response


@router.post("/sign-out")
async def sign_out(request: Request, services: Wired) -> Response:
    """End the session."""
    visitors = services.of(Visitors)
    await visitors.sign_out(request, services)
    response = go_to(request, "sign-in")
    visitors.keep(request, response, None)
    return response
