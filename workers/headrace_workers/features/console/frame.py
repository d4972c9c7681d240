"""Frame of every page of the console: policy headers, relative links, who may see it, and its own error pages."""

import hashlib
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from fastapi.routing import APIRoute
from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from headrace_workers.cli.durations import show_ms, show_time
from headrace_workers.core.scopes import JOBS_READ, OPERATOR, Scope
from headrace_workers.features.console.visitors import CONSOLE, Visitors
from headrace_workers.features.quality.feature import REVIEWS_READ
from headrace_workers.http.bodies import BODY_BYTES
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import PAGES, Refusal, Why
from headrace_workers.http.services import Services

# Of every response under /console. Nothing is loaded from elsewhere, and nothing that stands in a page is run.
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Nothing to other sites. With `no-referrer` browsers would send `Origin: null` with the console's own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
BODY_BYTES[CONSOLE] = 4_194_304  # a job of 1 MB, as a form encodes it

# The pages that there are: path, name, and the scope that a visitor needs.
NAVIGATION: Final[tuple[tuple[str, str, Scope], ...]] = (
    ("playground/", "Playground", JOBS_READ),
    ("jobs/", "Jobs", JOBS_READ),
    ("now/", "Now", OPERATOR),
    ("review/", "Review", REVIEWS_READ),
    ("aside/", "Set aside", JOBS_READ),
)
PART: Final = "part"  # the last name of a path under which a page asks for a part of itself, again and again
_TITLES: Final = {
    400: "That did not work",
    401: "You are signed out",
    403: "This is not allowed",
    404: "There is nothing here",
    409: "Something else was there first",
    413: "This is too large",
    429: "One moment, please",
    503: "Not ready",
}
TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
STATIC: Final = {
    file.name: file.read_bytes()
    for file in files(__package__).joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in TYPES
}
_VERSION: Final = hashlib.sha256(b"".join(STATIC[name] for name in sorted(STATIC))).hexdigest()[:12]


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


TEMPLATES: Final = Environment(
    autoescape=True, loader=FunctionLoader(_template), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"ms": show_ms, "time": show_time}
TEMPLATES.globals |= {"version": _VERSION, "titles": _TITLES}


def root_of(path: str) -> str:
    """Return the console's address as a page under this path links to it: a proxy may have put a prefix before it."""
    return "../" * (path.count("/") - 2) or ("./" if path.startswith(f"{CONSOLE}/") else f"{CONSOLE[1:]}/")


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page, or a part of one, made of this template."""
    visitor: Caller | None = getattr(request.state, "visitor", None)
    return _page(template, request.url.path, status, visitor=visitor, **values)


def _page(template: str, path: str, status: int, *, visitor: Caller | None, **values: Any) -> Response:
    root = root_of(path)
    pages = [
        (f"{root}{link}", name, path.startswith(f"{CONSOLE}/{link}"))
        for link, name, scope in NAVIGATION
        if visitor is not None and visitor.may(scope)
    ]
    text = TEMPLATES.get_template(template).render(root=root, visitor=visitor, pages=pages, status=status, **values)
    return html(text.encode("utf-8", "replace"), status)  # a text may hold half a character


def html(content: bytes, status: int = 200) -> Response:
    """Return the response that holds a page, or a part of one."""
    return HTMLResponse(content, status, {"cache-control": "no-store"})


def go_to(request: Request, place: str) -> Response:
    """Return the redirection to a place of the console, such as `playground/`."""
    return RedirectResponse(f"{root_of(request.url.path)}{quote(place, safe='/?=&')}", 303)


def error_page(refusal: Refusal, path: str, request_id: str) -> Response:
    """Return the page about a refusal; where a page had asked for a part of itself, that part, which asks again if the
    fault may pass.
    """
    status, template = refusal.why.status, "error.html"
    if path.endswith(f"/{PART}"):
        template = "waits.html" if status in (429, 503) else "error_part.html"
    response = _page(template, path, status, visitor=None, detail=str(refusal), request_id=request_id)
    response.headers.update(HEADERS | refusal.headers)
    if refusal.retry_after is not None:
        response.headers["retry-after"] = str(max(1, round(refusal.retry_after)))
    return response


PAGES[CONSOLE] = error_page


class OpenRoute(APIRoute):
    """A route of the console for everybody. It takes forms from the console's own pages only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that serves a request."""
        serve = super().get_route_handler()

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            visitors = services.of(Visitors)
            if request.method != "GET":
                visitors.check_origin(request)
            response = await self.admit(request, services, visitors) or await serve(request)
            response.headers.update(HEADERS)
            return response

        return handle

    async def admit(self, request: Request, services: Services, visitors: Visitors) -> Response | None:
        """Return the response to a visitor who may not come here; None for one who may."""
        return None


class SignedInRoute(OpenRoute):
    """A route of the console for those who are signed in: `visitor_of` says who it is."""

    async def admit(self, request: Request, services: Services, visitors: Visitors) -> Response | None:
        """Count the request of a visitor. Lead one who is not signed in to the page where that is done."""
        polls = request.url.path.endswith(f"/{PART}")
        visitor = await visitors.visitor(request, services, polls=polls)
        if visitor is None:
            if polls:
                raise Refusal(Why.UNAUTHORIZED, "the session has ended: load the page again to sign in")
            return go_to(request, "sign-in")
        log = request.scope["headrace"]
        log.tenant, log.key_id = visitor.tenant, visitor.key_id
        await services.rates.take(visitor.tenant, 1)
        request.state.visitor = visitor
        return None


def visitor_of(request: Request, scope: Scope) -> Caller:
    """Return the visitor of a route. Raise 403 where they lack this scope."""
    visitor: Caller = request.state.visitor
    visitor.need(scope)
    return visitor
