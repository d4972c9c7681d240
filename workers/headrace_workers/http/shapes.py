"""Answers that many routes describe in OpenAPI in the same words."""

from typing import Any, Final

from pydantic import BaseModel

REFERENCES: Final = "#/components/schemas/"

Responses = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """Why a request got no answer: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    param: str | None = None
    job_id: str | None = None


PROBLEM: Final[dict[str, Any]] = {
    "description": "Why there is no answer.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
ANSWERS: Final[Responses] = {"default": PROBLEM}
STREAM: Final[Responses] = {
    200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
