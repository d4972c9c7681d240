"""OpenAPI descriptions of the routes for OpenAI's clients: supported parameters, an example, and OpenAI's error object.

OpenAI describes the bodies themselves; `features/generation/openai` says what is read of them.
"""

from typing import Any, Final

from pydantic import BaseModel, Field

from headrace_workers.http.openai_parameters import Parameters


class OpenAIErrorBody(BaseModel):
    """An error in the form of OpenAI."""

    message: str = Field(description="What is wrong, and what to do.")
    type: str = Field(description="The kind of error, as OpenAI names it.")
    param: str | None = Field(None, description="The parameter that is wrong.")
    code: str | None = Field(None, description="The reason.")
    headrace: dict[str, str] | None = Field(
        None,
        description="`job_id`: the job that was made of the request, if there is one. `place`: where its answer fails "
        "the format that was asked for.",
    )


class OpenAIError(BaseModel):
    """The body of an error response."""

    error: OpenAIErrorBody = Field(description="The error.")


ERRORS: Final[dict[int | str, dict[str, Any]]] = {"default": {"model": OpenAIError, "description": "The error."}}
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
    """Return the body of a request: the parameters that work, with the schemas of the `known` ones, and an example."""
    schema = {
        "type": "object",
        "properties": {name: known.get(name, {}) for name in sorted(parameters.works)},
        "required": sorted(known),
    }
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}
