"""Answers that many routes describe in OpenAPI in the same words."""

from typing import Any, Final

from pydantic import BaseModel, Field

REFERENCES: Final = "#/components/schemas/"

Responses = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """An error of the native routes, as RFC 9457 defines it."""

    type: str = Field(description="`urn:headrace:problem:` and the reason.")
    title: str = Field(description="The reason in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and what to do.")
    request_id: str = Field(description="The id of the request in the log of the gateway.")
    param: str | None = Field(None, description="The parameter that is wrong.")
    job_id: str | None = Field(None, description="The job that was made of the request, if there is one.")


PROBLEM: Final[dict[str, Any]] = {
    "description": "The error.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
ANSWERS: Final[Responses] = {"default": PROBLEM}
STREAM: Final[Responses] = {
    200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
