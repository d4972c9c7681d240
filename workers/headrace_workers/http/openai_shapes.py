"""OpenAPI descriptions of the routes for OpenAI's clients: supported parameters, an example, and OpenAI's error object.

OpenAI describes the bodies themselves; `features/generation/openai` says what is read of them.
"""

from typing import Any, Final

from pydantic import BaseModel

from headrace_workers.http.openai_parameters import Parameters


class OpenAIErrorBody(BaseModel):
    """OpenAI's description of an error; `headrace` has the job's id if there is a job."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    headrace: dict[str, str] | None = None


class OpenAIError(BaseModel):
    """The body of an error response."""

    error: OpenAIErrorBody


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": OpenAIError, "description": "No answer, and why."}
}
ANSWERED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The answer: a body, or with `stream` its chunks.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
    **ERRORS,
}


def body_of(parameters: Parameters, example: dict[str, Any], **known: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request: the parameters that work, with the schemas of those that are `known`, and an
    example.
    """
    schema = {
        "type": "object",
        "properties": {name: known.get(name, {}) for name in sorted(parameters.works)},
        "required": sorted(known),
    }
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}
