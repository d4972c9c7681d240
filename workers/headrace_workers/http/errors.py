"""Refusals of requests: a closed set of reasons, each with its HTTP status, told in the form of the path's clients."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import Response

from headrace_producers.errors import InvalidJob
from headrace_schemas.errors import (
    Category,
    HeadraceError,
    InputTooLong,
    InvalidRecord,
    PromptTooLong,
    ProviderNotAllowed,
    Unavailable,
    UnknownModel,
    UnknownResource,
)
from headrace_workers.core.log import Action, log
from headrace_workers.core.sql.database_errors import Unwritable
from headrace_workers.http.openai import Refused

# Paths of headrace begin so; any other path is, or could be, one of OpenAI's, whose client may have lost its /v1.
NATIVE: Final = (
    "/v1/jobs", "/v1/evaluations", "/v1/usage", "/v1/reviews", "/v1/held", "/v1/labels", "/healthz", "/readyz",
    "/metrics", "/openapi.json",
)  # fmt: skip

# What tells people of refusals on a path and all below it, as a page. It is called with the refusal, the path and the
# request's id.
PAGES: "Final[dict[str, Callable[[Refusal, str, str], Response]]]" = {}

# OpenAI's resources that headrace has no counterpart for, by the first part of their paths; what to use instead, if
# there is something.
UNSUPPORTED: Final = {
    "images": "",
    "audio": "",
    "videos": "",
    "realtime": "",
    "live": "",
    "safety": "",
    "content_provenance_checks": "",
    "admin": "`headrace keys` and `headrace limits` administer tenants",
    "beta": "",
    "assistants": "use POST /v1/responses",
    "threads": "use POST /v1/responses",
    "conversations": "use POST /v1/responses with previous_response_id",
    "containers": "",
    "skills": "",
    "chatkit": "",
    "organization": "`headrace keys` and `headrace limits` administer tenants",
    "projects": "`headrace keys` and `headrace limits` administer tenants",
}
_FAULTS_OF_REQUESTS: Final = (InvalidRecord, InvalidJob, UnknownModel, PromptTooLong, InputTooLong)
_OPENAI_TYPES: Final[dict[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_FIRST_SERVER_ERROR: Final = 500
REFERENCES: Final = "#/components/schemas/"

Responses = dict[int | str, dict[str, Any]]
PROBLEM: Final[dict[str, Any]] = {
    "description": "The error.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
ANSWERS: Final[Responses] = {"default": PROBLEM}
STREAM: Final[Responses] = {
    200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


class Why(Enum):
    """A reason: its code, its status, and its title."""

    INVALID = "invalid", 400, "The request cannot be understood"
    UNAUTHORIZED = "unauthorized", 401, "No valid API key"
    FORBIDDEN = "forbidden", 403, "This key may not do that"
    NOT_FOUND = "not_found", 404, "There is no such thing"
    METHOD = "method_not_allowed", 405, "There is no such method here"
    TOO_SLOW = "too_slow", 408, "The body comes too slowly"
    CONFLICT = "conflict", 409, "Something else was there first"
    TOO_LARGE = "too_large", 413, "The body is too large"
    MEDIA_TYPE = "unsupported_media_type", 415, "The body is of another type"
    RATE = "rate_limit", 429, "This tenant asks too often"
    QUEUE_AGE = "queue_age", 429, "Jobs like this one wait too long already"
    QUOTA = "quota", 429, "This tenant's quota is used up"
    LEDGER_FULL = "ledger_full", 429, "Too many jobs are open"
    BUSY = "too_many_requests", 429, "This tenant has too much under way at a time"
    GONE = "client_gone", 499, "The client has hung up"
    INTERNAL = "internal", 500, "Something is wrong here"
    KAFKA_AWAY = "kafka_away", 503, "Kafka does not answer"
    KAFKA_REFUSES = "kafka_refuses", 503, "Kafka answers, and takes no such jobs"
    LEDGER_AWAY = "ledger_away", 503, "The ledger does not answer"
    MACHINE_BUSY = "machine_busy", 503, "This machine is too busy to tell"
    NO_EMBEDDER = "no_embedder", 503, "No embedder is here"
    STORE_AWAY = "store_away", 503, "The file store does not answer"
    STOPPING = "stopping", 503, "This gateway is being stopped"
    TIMEOUT = "timeout", 504, "Not in time"

    def __init__(self, code: str, status: int, title: str) -> None:
        self.code = code
        self.status = status
        self.title = title


class Refusal(HeadraceError):
    """The refusal of a request, and its reason.

    `param` names the parameter that is at fault, as the request has it (`expires_after.days`). `code` is OpenAI's for
    what is wrong with it, where `why` alone would not tell. `retry_after` is in seconds. `should_retry`
    tells clients whether to send it again, where their own rule by the status would be wrong. `job_id` is of a job that
    was made of the request, if one was.
    """

    def __init__(
        self,
        why: Why,
        detail: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        job_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.why = why
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.job_id = job_id
        self.headers = dict(headers or {})


def stopping(*, should_retry: bool | None = None) -> Refusal:
    """Return the refusal of a request that comes while the gateway stops."""
    return Refusal(
        Why.STOPPING, "this gateway is stopping: send the request again", retry_after=1.0, should_retry=should_retry
    )


def internal_error() -> Refusal:
    """Return the refusal of a request whose failure only the gateway's log explains."""
    return Refusal(Why.INTERNAL, "the gateway's log has the details under this request's id")


class KafkaOutage(Refusal):
    """Kafka does not have the job, or did not confirm it in time. `should_retry` is None if nothing was sent."""

    def __init__(
        self, detail: str, why: Why = Why.KAFKA_AWAY, *, should_retry: bool | None = None, job_id: str | None = None
    ) -> None:
        retry_after = _WAIT_FOR_KAFKA.get(why)
        super().__init__(why, detail, retry_after=retry_after, should_retry=should_retry, job_id=job_id)


class LedgerOutage(Refusal):
    """The ledger does not answer, or not in time."""

    def __init__(self, detail: str, *, should_retry: bool | None = None, job_id: str | None = None) -> None:
        super().__init__(Why.LEDGER_AWAY, detail, retry_after=1.0, should_retry=should_retry, job_id=job_id)


def unsaid(error: Unavailable, service: str) -> str:
    """Return the text for clients about a service that fails, and log the service's own words, which name our hosts."""
    log("gateway", logging.WARNING, Action.UNAVAILABLE, str(error))
    if isinstance(error, Unwritable):
        return error.plain
    return f"{service} does not work for now: try again in a moment; the gateway's log says why"


def refusal_of(error: HeadraceError) -> Refusal:
    """Return an error of headrace as a refusal. One that is no fault of the request tells nothing of our insides."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Unavailable):
        return LedgerOutage(str(error))  # of a search, which says how to come by an embedder
    if isinstance(error, _FAULTS_OF_REQUESTS):
        return Refusal(_why_of(error), str(error), param=error.param, code=error.code)
    if error.category is Category.QUOTA:
        return Refusal(
            Why.QUOTA, str(error), retry_after=60.0, should_retry=False
        )  # a person makes room, or a run ends
    if error.category is Category.CONFLICT:
        return Refusal(Why.CONFLICT, str(error))
    return internal_error()


def _why_of(error: HeadraceError) -> Why:
    if isinstance(error, ProviderNotAllowed):
        return Why.FORBIDDEN
    return Why.NOT_FOUND if isinstance(error, UnknownResource) else Why.INVALID


def response_of(refusal: Refusal, path: str, request_id: str) -> Response:
    """Return the response that tells the client of a refusal."""
    why, headers = refusal.why, dict(refusal.headers)
    for own, page in PAGES.items():
        if path == own or path.startswith(f"{own}/"):
            return page(refusal, path, request_id)
    if refusal.retry_after is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after))
    if refusal.should_retry is not None:
        headers["x-should-retry"] = "true" if refusal.should_retry else "false"
    if why is Why.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    body, media_type = (
        (_problem(refusal, request_id), "application/problem+json")
        if is_native(path)
        else (openai_body(refusal), "application/json")
    )
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Response(content, why.status, headers, media_type)


def refused_response(error: Refused) -> Response:
    """Return the response to OpenAI's clients for a request that was refused, or a job that was not answered."""
    headers = {} if error.should_retry is None else {"x-should-retry": "true" if error.should_retry else "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    content = json.dumps(error.body(), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Response(content, error.status, headers, "application/json")


def _problem(refusal: Refusal, request_id: str) -> dict[str, Any]:
    why = refusal.why
    body: dict[str, Any] = {
        "type": f"urn:headrace:problem:{why.code}",
        "title": why.title,
        "status": why.status,
        "detail": str(refusal),
        "request_id": request_id,
    }
    if refusal.param is not None:
        body["param"] = refusal.param
    return body if refusal.job_id is None else {**body, "job_id": refusal.job_id}


def openai_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal in the shape of OpenAI's errors."""
    status = refusal.why.status
    usual = "server_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    error: dict[str, Any] = {
        "message": str(refusal),
        "type": _OPENAI_TYPES.get(status, usual),
        "param": refusal.param,
        "code": refusal.code or _OPENAI_CODES.get(refusal.why, refusal.why.code),
    }
    return {"error": error if refusal.job_id is None else {**error, "headrace": {"job_id": refusal.job_id}}}


def unsupported(path: str) -> str | None:
    """Return what to say of a path of OpenAI's that headrace does not support, with or without its /v1; else None."""
    resource = path.removeprefix("/v1").lstrip("/").partition("/")[0]
    if resource not in UNSUPPORTED:
        return None
    instead = UNSUPPORTED[resource]
    words = f"headrace does not support OpenAI's {resource}"
    return f"{words}: {instead}" if instead else f"{words}; GET /openapi.json tells what there is"


def is_native(path: str) -> bool:
    """Return True if errors on this path have headrace's own shape (RFC 9457)."""
    return any(path == own or path.startswith(f"{own}/") for own in NATIVE)


_WAIT_FOR_KAFKA: Final = {Why.KAFKA_AWAY: 1.0, Why.KAFKA_REFUSES: 10.0}  # seconds; a person mends the second
# OpenAI's own codes, where it has one for a reason; else the reason is the code.
_OPENAI_CODES: Final[dict[Why, str]] = {
    Why.INVALID: "invalid_value",
    Why.UNAUTHORIZED: "invalid_api_key",
    Why.RATE: "rate_limit_exceeded",
    Why.QUOTA: "insufficient_quota",
}


class Problem(BaseModel):
    """An error of the native routes, as RFC 9457 defines it."""

    type: str = Field(description="`urn:headrace:problem:` and the reason.")
    title: str = Field(description="The reason in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and what to do.")
    request_id: str = Field(description="The id of the request in the log of the gateway.")
    param: str | None = Field(None, description="The parameter that is wrong.")
    job_id: str | None = Field(None, description="The job that was made of the request, if there is one.")
