"""Fields that every request may have: the service tier, metadata, and headrace's own fields."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.job import Job, Lane
from headrace_schemas.reasons import first_problem
from headrace_schemas.times import Time
from headrace_workers.features.generation.openai.request import Asker
from headrace_workers.http.openai_errors import Refused, missing, unsupported, wrong

J = TypeVar("J", bound=Job)

# The client's `extra_body={"headrace": {...}}`.
WISHES: Final = "headrace"
OF_ANY: Final = ("priority", "deadline", "callback")
OF_GENERATION: Final = (
    *OF_ANY, "cache", "max_age", "screen", "knowledge", "knowledge_filter", "without_passages", "criteria", "reference",
    "other", "min_quality", "output", "top_k", "repetition_penalty",
)  # fmt: skip

# The receipt has the end user under the names that OpenAI has for it.
_USERS: Final = ("safety_identifier", "user")

_USUAL, _URGENT = 5, 9
# By OpenAI's name: the tier that is told in the response, whether it is bulk work, and how urgent in its lane.
_TIERS: Final = {
    "auto": ("default", False, _USUAL),
    "default": ("default", False, _USUAL),
    "flex": ("flex", True, _USUAL),
    "priority": ("priority", False, _URGENT),
    "fast": ("priority", False, _URGENT),
}
_MISSING: Final = "is missing"  # the contract's words
_TIME: Final = TypeAdapter[datetime](Time)


def tier(asked: Mapping[str, Any]) -> str:
    """Return the service tier that the response reports. Raise Refused for an unknown tier."""
    return _tier(asked)[0]


def shared_fields(asked: Mapping[str, Any], asker: Asker, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the fields that every kind of job has, and those of headrace's own fields that this kind may have.

    `asked` is what the body holds. Refused names a wish that is not known.
    """
    _, bulk, priority = _tier(asked)
    fields: dict[str, Any] = {
        "tenant": asker.tenant,
        "lane": Lane.BATCH if bulk else asker.lane,
        "priority": priority,
        "metadata": _metadata(asked),
        **_headrace_options(asked, allowed),
    }
    if asker.deadline is not None:
        fields["deadline"] = _sooner(fields.get("deadline"), asker.deadline)
    return fields


def build(kind: type[J], fields: Mapping[str, Any], asker: Asker, names: Mapping[str, str], number: str = "") -> J:
    """Return the job of these fields. Raise Refused, which names the first field of the request that is wrong.

    `names` are those of the request by those of the job, with the fields that a field lies in (`sampling.stop`,
    `tools[0]`); what is not among them is one of headrace's own wishes. `number` makes the key of one of several jobs.
    """
    key = None if asker.key is None else asker.key + number
    try:
        document = json.dumps({**fields, "idempotency_key": key}).encode()
    except RecursionError:
        raise Refused("the body is nested too deeply", code="invalid_value") from None
    try:
        return kind.model_validate_json(document, strict=True)
    except ValidationError as error:
        location, words = first_problem(error, document)
        if location is None:
            raise Refused(words, code="invalid_value") from None
        param = _param(location, names)
        raise (missing(param) if words == _MISSING else wrong(param, words)) from None


def _tier(asked: Mapping[str, Any]) -> tuple[str, bool, int]:
    name = asked.get("service_tier", "auto")
    found = _TIERS.get(name) if isinstance(name, str) else None
    if found is None:
        raise unsupported("service_tier", f"must be one of {', '.join(_TIERS)}")
    return found


def _metadata(asked: Mapping[str, Any]) -> dict[str, Any]:
    metadata = asked.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise wrong("metadata", "must be an object")
    users = {name: asked[name] for name in _USERS if name in asked}
    for name in users:
        if name in metadata:
            raise wrong(f"metadata.{name}", f"the parameter {name} goes there: give one of the two")
    return {**metadata, **users}


def _headrace_options(asked: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    wishes = asked.get(WISHES, {})
    if not isinstance(wishes, Mapping):
        raise wrong(WISHES, "must be an object")
    for name in wishes:
        if name not in allowed:
            words = f"{WISHES}.{name} is no wish that is known here; known are: {', '.join(allowed)}"
            raise Refused(words, code="unknown_parameter", param=f"{WISHES}.{name}")
    return {name: value for name, value in wishes.items() if value is not None}


def _sooner(wished: object, deadline: datetime) -> str:
    if wished is None:
        return deadline.isoformat()
    try:
        return min(_TIME.validate_json(json.dumps(wished), strict=True), deadline).isoformat()
    except ValidationError as error:
        raise wrong(f"{WISHES}.deadline", first_problem(error)[1]) from None


def _param(location: tuple[int | str, ...], names: Mapping[str, str]) -> str:
    """Return the name that the request has for the field that is wrong."""
    if location[:1] == ("metadata",):
        return str(location[1]) if location[1:] and location[1] in _USERS else "metadata"
    for length in range(len(location), 0, -1):
        if name := names.get(_path(location[:length]).removeprefix(".")):
            return name + _path(location[length:])
    return WISHES + _path(location)


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
