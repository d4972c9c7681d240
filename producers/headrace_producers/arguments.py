"""Conversion and validation of a call's arguments into a job. Pure; arguments are checked nowhere else."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from headrace_producers.errors import InvalidJob
from headrace_schemas import Sampling
from headrace_schemas.envelope import is_traceparent
from headrace_schemas.model import Value
from headrace_schemas.output_format import JsonSchemaFormat, OutputFormat
from headrace_schemas.reasons import describe

V = TypeVar("V", bound=Value)

Deadline = datetime | timedelta | None

Output = type[BaseModel] | OutputFormat | Mapping[str, Any] | None

_MAX_HEADER = 256
_LONGEST_NAME: Final = 64
_FORMATS: Final = ("json_schema", "json_object", "choice", "regex", "grammar")  # none is a type of JSON Schema


def validated(build: Callable[..., V], fields: Mapping[str, Any]) -> V:
    """Return `build` called with the fields that are not None. Raise InvalidJob, which says what is wrong and never
    quotes the value.
    """
    try:
        return build(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise InvalidJob(f"{build.__name__}: {describe(error)}") from None


def sampling_of(sampling: Sampling | None, keywords: Mapping[str, Any]) -> Sampling:
    """Return sampling from one value or from keywords. Both at once are an error, since one would hide the other."""
    given = {name: value for name, value in keywords.items() if value is not None}
    if sampling is None:
        return validated(Sampling, given)
    if given:
        raise InvalidJob(f"give either sampling or {', '.join(given)}, and not both")
    return sampling


def output_of(output: Output) -> Any:
    """Return the format of an answer: of a pydantic model, of a JSON Schema as a dict, or as it is."""
    if isinstance(output, type) and issubclass(output, BaseModel):
        try:
            schema = output.model_json_schema()
        except PydanticUserError as error:
            raise InvalidJob(f"output: {output.__name__} has no JSON Schema: {error.message}") from None
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", output.__name__).strip("_")[:_LONGEST_NAME]
        return JsonSchemaFormat(json_schema=schema, name=name if name[:1].isalpha() else None)
    if isinstance(output, Mapping) and output.get("type") not in _FORMATS:
        return validated(JsonSchemaFormat, {"json_schema": dict(output)})
    return output


def sequence_of(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return a list or tuple as the tuple that a job holds; a lone string is one value, not its characters. The job
    refuses a value that is no list.
    """
    if values is None:
        return None
    return (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)


def deadline_at(deadline: Deadline, now: datetime) -> datetime | None:
    """Return a deadline as a point in time in UTC. A duration counts from `now`."""
    if isinstance(deadline, timedelta):
        if deadline <= timedelta(0):
            raise InvalidJob(f"deadline: {deadline} is not in the future")
        try:
            return (now + deadline).astimezone(UTC)
        except OverflowError:
            raise InvalidJob(f"deadline: {deadline} from now lies beyond the year 9999") from None
    return deadline


def check_event_id(event_id: str) -> str:
    """Return the event's id, where it can be a `ce_id` header."""
    return _header_text("event_id", event_id)


def check_correlationid(correlationid: str | None) -> str | None:
    """Return the caller's own name for what a job belongs to, where it can be a `ce_correlationid` header; or None."""
    return None if correlationid is None else _header_text("correlationid", correlationid)


def _header_text(name: str, text: str) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_HEADER or not text.isprintable():
        raise InvalidJob(f"{name}: must be 1 to {_MAX_HEADER} printable characters")
    return text


def check_traceparent(traceparent: str | None) -> str | None:
    """Return a W3C traceparent, or None."""
    if traceparent is not None and not (isinstance(traceparent, str) and is_traceparent(traceparent)):
        raise InvalidJob("traceparent: is not of the form 00-<32 hex>-<16 hex>-<2 hex>, see W3C Trace Context")
    return traceparent
