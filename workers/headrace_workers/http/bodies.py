"""Bodies: bounded in bytes and in time while they come, and in depth as JSON."""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from headrace_schemas.reasons import describe
from headrace_workers.core.json_lines import NamedTwice, NoJSON, finite, named_once
from headrace_workers.core.text_file import GZIP, ZSTANDARD
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.openai import NO_OBJECT
from headrace_workers.http.routes import Guarded

# Paths that take another size than `GatewaySettings.max_body`, with all below them; the longest that fits counts.
BODY_BYTES: Final[dict[str, int]] = {}
HEAD_BYTES: Final = 32_768  # of the request line and all headers
GRACE_SECONDS = 60.0  # that may be waited in vain
LEAST_RATE = 1_024  # bytes a second, which make up for as much waiting
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
_PACKED: Final = {GZIP: "gzip", ZSTANDARD: "Zstandard"}
_TEXT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_FORM: Final = "multipart/"
_WHOLE: Final = "value: "  # how the contract begins what it says of a document as a whole


def body_bound(path: str, usual: int) -> int:
    """Return the bytes that a body on this path may have."""
    fitting = [own for own in BODY_BYTES if path == own or path.startswith(f"{own}/")]
    return BODY_BYTES[max(fitting, key=len)] if fitting else usual


@dataclass(slots=True)
class Pace:
    """Pace of one body; `left` is in seconds. A body at the least rate or faster may take any time."""

    left: float = field(default_factory=lambda: GRACE_SECONDS)

    def took(self, seconds: float, count: int) -> None:
        """Count so many bytes that came after so many seconds."""
        self.left = min(GRACE_SECONDS, self.left - seconds + count / LEAST_RATE)


def parsed(body: bytes) -> Any:
    """Return the value of a JSON document.

    Raise Refused if it is not JSON, is nested too deeply, repeats a name, or has a number that JSON does not allow.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=named_once, parse_float=finite)
    except (NamedTwice, NoJSON) as error:
        raise Refusal(Why.INVALID, f"the body cannot be read: {error}") from None
    except ValueError as error:
        raise Refusal(Why.INVALID, f"the body {_described(body, error)}") from None
    return value


def _described(body: bytes, error: ValueError) -> str:
    """Return what is wrong, in the contract's words where it has some."""
    for magic, name in _PACKED.items():
        if body.startswith(magic):
            return f"is compressed with {name}: send it uncompressed"
    try:
        _ANYTHING.validate_json(body)
    except ValidationError as found:
        words = describe(found, body)
        return words.removeprefix(_WHOLE) if words.startswith(_WHOLE) else f"is not JSON: {words}"
    return f"is not JSON: NaN and Infinity are not JSON, send a number or null ({error})"


async def json_object(request: Request) -> Mapping[str, Any]:
    """Return the body as a JSON object."""
    return _object(await request.body())


def _object(body: bytes) -> Mapping[str, Any]:
    value = parsed(body)
    if not isinstance(value, dict):
        raise Refusal(Why.INVALID, NO_OBJECT)
    return value


class _JSONRequest(Request):
    """A request whose body is a JSON object, whatever its content type."""

    @property
    def headers(self) -> Headers:
        """Return the headers as they came, except for the type."""
        return Headers({**super().headers, "content-type": "application/json"})

    async def json(self) -> Any:
        """Return the body. Raise Refused if it is not a JSON object."""
        return _object(await self.body())


class JSONRoute(Guarded):
    """A route whose body FastAPI reads: by the same rules as all others. A form is read as one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that serves a request."""
        serve = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.headers.get("content-type", "").startswith(_FORM):
                return await serve(request)
            return await serve(_JSONRequest(request.scope, request.receive))

        return handle


def unparsed(value: Any) -> bytes:
    """Return the JSON of a value that `parsed` returned."""
    return _TEXT.encode(value).encode("utf-8", "surrogatepass")
