"""Shared parts of the routes for OpenAI's clients: their parameters, their errors, and how OpenAPI describes both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, Field

from headrace_schemas import Category, DeadLetter, HeadraceError, JobCancelled, Result
from headrace_schemas.errors import (
    DeadlinePassed,
    EndCode,
    PromptTooLong,
    ProviderNotAllowed,
    UnknownModel,
    UnknownResource,
)

INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"

End = Result | DeadLetter | JobCancelled

# Status and type by why something failed. A job that died of its request's fault says 400, as admission does.
_BY_CATEGORY: Final[dict[Category, tuple[int, str]]] = {
    Category.INVALID: (400, INVALID),
    Category.CONFLICT: (409, INVALID),
    Category.QUOTA: (429, "insufficient_quota"),
    Category.EXPIRED: (504, _SERVER),
    Category.PERMANENT: (500, _SERVER),
    Category.TRANSIENT: (503, _SERVER),
    Category.REROUTABLE: (503, _SERVER),
    Category.POISON: (500, _SERVER),
}
# A permanent failure may be a fault of the request or of the configuration: only the code tells.
_BY_CODE: Final[dict[EndCode, tuple[int, str]]] = {
    EndCode.CONTEXT_LENGTH: (400, INVALID),
    EndCode.BAD_REQUEST: (400, INVALID),
    EndCode.CONTENT_POLICY: (400, INVALID),
    EndCode.NO_MODEL: (503, _SERVER),
}
_UNAVAILABLE: Final = 503
_TRY_AFTER: Final = 30.0  # seconds, after the last attempt of a job
_CODES: Final = {Category.INVALID: "invalid_value", Category.QUOTA: "insufficient_quota"}
# Reasons for which OpenAI has a code of its own, with the parameter.
_BY_ERROR: Final[dict[type[HeadraceError], tuple[int, str, str | None]]] = {
    UnknownModel: (404, "model_not_found", "model"),
    DeadlinePassed: (400, "expired", "headrace.deadline"),
    UnknownResource: (404, "not_found", None),
    ProviderNotAllowed: (403, "provider_not_allowed", "model"),
}

# OpenAI has none of them.
_OWN_SAMPLING: Final = ("top_k", "repetition_penalty")
_OUTPUT: Final = "output"
_BEHIND_A_FIELD: Final = ".[/#,:"
_LACKS_ITS_FORMAT: Final = 422  # no other error has it, and no client repeats it
NO_OBJECT: Final = "the body must be a JSON object"
# Values, beside null, that ask for nothing: a parameter with one of them might as well have been left out.
Plain = tuple[Any, ...]


class Refused(HeadraceError):
    """A request that gets no answer: the HTTP status, and what OpenAI's error object says.

    `param` names what it is about as the request has it, such as `messages[0].content`. `job_id` is of the job that was
    made of the request, if one was, and `place` is where its answer fails the format that was asked for. `should_retry`
    tells clients whether to send it again, where their own rule by the status would be wrong; `retry_after` (seconds)
    tells people when.
    """

    category = Category.INVALID

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        job_id: str | None = None,
        place: str | None = None,
        should_retry: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.job_id = job_id
        self.place = place
        self.should_retry = should_retry
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Return the body of the HTTP response."""
        error = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        told = {name: value for name, value in (("job_id", self.job_id), ("place", self.place)) if value is not None}
        return {"error": {**error, "headrace": told} if told else error}


def missing(param: str) -> Refused:
    """Return the refusal of a request without a required parameter."""
    return Refused(f"{param} is missing", code="missing_required_parameter", param=param)


def wrong(param: str, words: str) -> Refused:
    """Return the refusal of a parameter's value: `words` go on from its name."""
    return Refused(f"{param}: {words}", code="invalid_value", param=param)


def unsupported(param: str, words: str) -> Refused:
    """Return the refusal of a parameter, or of its value, that OpenAI supports and headrace does not."""
    return Refused(f"{param}: {words}", code="unsupported_parameter", param=param)


def refused(error: HeadraceError, prompt: str = "messages", names: Mapping[str, str] | None = None) -> Refused:
    """Return any error of headrace in OpenAI's form. `prompt` is the request's name for the prompt, and `names` are its
    names for other fields of a job.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, PromptTooLong):
        return Refused(str(error), code="context_length_exceeded", param=_in_body(error.param, names or {}) or prompt)
    for kind, (status, code, param) in _BY_ERROR.items():
        if isinstance(error, kind):
            return Refused(str(error), status=status, code=code, param=param or error.param)
    status, type_ = _BY_CATEGORY[error.category]
    code = error.code or _code_of(error.category)
    words = _renamed(str(error), names or {}) or str(error)
    return Refused(words, status=status, type=type_, code=code, param=_in_body(error.param, names or {}))


def _in_body(param: str | None, names: Mapping[str, str]) -> str | None:
    """Return the name that a body has for a field of a job: sampling parameters stand at its top."""
    if param is None:
        return None
    if renamed := _renamed(param, names):
        return renamed
    name = param.removeprefix("sampling.")
    return f"headrace.{name}" if name in _OWN_SAMPLING or name.split(".")[0] == _OUTPUT else name


def _renamed(text: str, names: Mapping[str, str]) -> str | None:
    """Return a text that begins with a field of a job as the body names the field, or None if it begins with none."""
    for name in sorted(names, key=len, reverse=True):
        if text == name or (text.startswith(name) and text[len(name)] in _BEHIND_A_FIELD):
            return names[name] + text[len(name) :]
    return None


def _code_of(category: Category) -> str:
    """Return OpenAI's code for a category, or the category where OpenAI has none."""
    return _CODES.get(category, str(category))


def unanswered(end: DeadLetter | JobCancelled) -> Refused:
    """Return the refusal for a job that ended without an answer. Another try would end the same way, or be another
    job.
    """
    if isinstance(end, JobCancelled):
        reason = f": {end.reason}" if end.reason else ""
        message = f"the job {end.job_id} was cancelled{reason}"
        return Refused(message, status=409, code="cancelled", job_id=end.job_id, should_retry=False)
    status, type_ = _BY_CATEGORY[end.category] if end.code is None else _BY_CODE[end.code]
    code = end.code or _code_of(end.category)
    if end.failure is not None:
        status, type_, code = _LACKS_ITS_FORMAT, _SERVER, end.failure
    return Refused(
        end.reason,
        status=status,
        type=type_,
        code=code,
        job_id=end.concerns,
        place=end.place,
        should_retry=False,
        retry_after=_TRY_AFTER if status == _UNAVAILABLE else None,
    )


def failure_told(end: End) -> dict[str, str]:
    """Return the job, failure, reason and place of an end without an answer of the format that was asked for."""
    fields = {"job_id", "failure", "reason", "place"}
    told: dict[str, str] = end.model_dump(mode="json", exclude_none=True, include=fields)
    return told


def answered(ends: Sequence[End], kind: str) -> list[Result]:
    """Return the results of all jobs of a request. Raise Refused for the first without a result.

    A key that was used before returns that job's end. If it was a request of another kind, raise 409.
    """
    results: list[Result] = []
    for end in ends:
        if not isinstance(end, Result):
            raise unanswered(end)
        if end.kind != kind:
            message = f"the idempotency key belongs to an earlier request, of {end.kind}: use another"
            raise Refused(message, status=409, code="idempotency_key_reused", job_id=end.job_id, should_retry=False)
        results.append(end)
    return results


@dataclass(frozen=True, slots=True)
class Parameters:
    """Every parameter of a method, in one of three classes.

    Those that work (`works`); those that are refused, each with the values that are accepted because they mean the
    default (`refused`); and those of services that headrace does not offer, refused in the same way (`unmeant`).
    `options` are headrace's own: requests put them into the object `headrace`, and never beside OpenAI's parameters.
    """

    works: frozenset[str]
    refused: Mapping[str, Plain] = field(default_factory=dict)
    unmeant: Mapping[str, Plain] = field(default_factory=dict)
    options: Sequence[str] = ()

    def given(self, body: object, within: str = "") -> dict[str, Any]:
        """Return the parameters that the body sets: without nulls and default values.

        Raise Refused for an unknown parameter, or else for the first unsupported one in the order of the tables: a
        client that sends tools gets an error about them, and not about the choice among them. `within` is the place of
        a nested body: `tools[0]`.
        """
        if not isinstance(body, Mapping):
            raise wrong(within, "must be an object") if within else Refused(NO_OBJECT)
        where = f"{within}." if within else ""
        elsewhere = {**self.refused, **self.unmeant}
        for name in body:
            if name not in self.works and name not in elsewhere:
                words = f"{where}{name} is not known here: {self._instead(name)}"
                raise Refused(words, code="unknown_parameter", param=f"{where}{name}")
        for name, plain in elsewhere.items():
            value = body.get(name)
            if value is not None and not any(_same(value, default) for default in plain):
                raise unsupported(where + name, _advice(plain))
        return {name: value for name, value in body.items() if name in self.works and value is not None}

    def _instead(self, name: str) -> str:
        return f'send it as {{"headrace": {{"{name}": …}}}}' if name in self.options else "leave it out"


def _same(one: object, other: object) -> bool:
    # True is 1 to Python, and not to JSON.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _advice(plain: Plain) -> str:
    if not plain:
        return "is not supported: leave it out"
    return f"is not supported: leave it out, or send {' or '.join(map(json.dumps, plain))}"


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
