"""Bodies of JSON: bounded in depth as they are read, and in bytes before. What type a client says they are is not
looked at: many say another without meaning it, as curl does.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from headrace_schemas.reasons import describe
from headrace_workers.gateway.errors import Refusal, Why

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def parsed(body: bytes) -> Any:
    """What a document of JSON says. Refused where it is none, or nested too deeply."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(Why.INVALID, f"the body is no JSON: {_described(body) or error}") from None


def _described(body: bytes) -> str:
    """What is wrong, in the contract's words; "" where it is no fault to it, as an infinite number is none."""
    try:
        _ANYTHING.validate_json(body)
    except ValidationError as error:
        return describe(error, body)
    return ""


async def json_object(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object."""
    value = parsed(await request.body())
    if not isinstance(value, dict):
        raise Refusal(Why.INVALID, "the body must be a JSON object")
    return value


def unparsed(value: Any) -> bytes:
    """A value that `parsed` gave, as JSON again."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
