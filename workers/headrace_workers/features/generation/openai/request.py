"""A request of an OpenAI client: the jobs that it asks for, and the fields and texts that several methods read."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from headrace_schemas import DeadLetter
from headrace_schemas.job import AnyJob, Job, Lane
from headrace_schemas.reasons import first_problem
from headrace_schemas.times import Time
from headrace_workers.http.openai import End, Parameters, Refused, missing, unsupported, wrong

Body = Mapping[str, Any]

J = TypeVar("J", bound=Job)
# The client's `extra_body={"headrace": {...}}`.
WISHES: Final = "headrace"
OF_ANY: Final = ("priority", "deadline", "callback")
OF_GENERATION: Final = (
    *OF_ANY, "variables", "cache", "max_age", "screen", "knowledge", "knowledge_filter", "without_passages",
    "criteria", "reference", "other", "min_quality", "output", "top_k", "repetition_penalty", "fallback_on_refusal",
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
_TOKENS: Final = "tokens are not taken: send text, which the model's own tokenizer reads"
# Instructions of whoever builds on a model are the system's to the models that run here.
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# By the name of a part's type: the field that its text is in.
CHAT_PARTS: Final = {"text": "text", "refusal": "refusal"}
RESPONSE_PARTS: Final = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
_PART: Final = Parameters(
    # Citations of an earlier answer come back as they were given; its text has their numbers.
    frozenset({"type", "text", "refusal", "annotations"}),
    refused={"logprobs": ([],)},
    unmeant={"prompt_cache_breakpoint": ()},
)
_OPTIONS: Final = Parameters(frozenset({"include_usage"}), unmeant={"include_obfuscation": (False,)})


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The caller of a request, and fields that the gateway adds to its jobs.

    `key` is the idempotency key of the request: the only job of a request has it as it is, the n-th of many as
    `key/n` (from 0). Without one the ids of the jobs come from the events that bring them. `lane` is that of the
    `service_tier` "default". A job ends by `deadline` at the latest, whatever the request says.
    """

    tenant: str
    key: str | None
    lane: Lane
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """The jobs of an OpenAI body, and how to answer it.

    `jobs` are one or more. `answer` takes their ends, in the order of the jobs, and gives the body of the response; it
    raises Refused, with an HTTP status, where one was not answered. `stream` says that the body is wanted in pieces:
    `chunks` makes them of it. `cut` makes the body for a client that waits of the end of a job that was `truncated`.
    All are pure, and may be called again. `prompt` is what the body calls the prompt, and `names` what it calls other
    fields of a job (`output.json_schema`, `tools[0]`).
    """

    jobs: tuple[AnyJob, ...]
    answer: Callable[[Sequence[End]], dict[str, Any]]
    stream: bool = False
    chunks: Callable[[Body], Iterator[dict[str, Any]]] | None = None
    prompt: str = "messages"
    names: Mapping[str, str] = field(default_factory=dict)
    cut: Callable[[DeadLetter], dict[str, Any]] | None = None


def flag(asked: Body, name: str, *, default: bool = False, within: str = "") -> bool:
    """Return the flag's value. Raise Refused unless it is true or false."""
    value = asked.get(name, default)
    if not isinstance(value, bool):
        raise wrong(f"{within}{name}", "must be true or false")
    return value


def tier(asked: Mapping[str, Any]) -> str:
    """Return the service tier that the response reports. Raise Refused for an unknown tier."""
    return _tier(asked)[0]


def shared_fields(asked: Mapping[str, Any], asker: RequestContext, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the fields that every kind of job has, and those of headrace's own fields that this kind may have.

    `asked` is what the body holds. Refused names a wish that is not known.
    """
    _, bulk, priority = _tier(asked)
    fields: dict[str, Any] = {
        "tenant": asker.tenant,
        "priority": priority,
        "metadata": _metadata(asked),
        **_headrace_options(asked, allowed),
    }
    if bulk or asker.lane is Lane.BATCH:
        fields["lane"] = Lane.BATCH
    elif priority == _URGENT:  # otherwise an application may decide
        fields["lane"] = Lane.INTERACTIVE
    if asker.deadline is not None:
        fields["deadline"] = _sooner(fields.get("deadline"), asker.deadline)
    return fields


def build(
    kind: type[J], fields: Mapping[str, Any], asker: RequestContext, names: Mapping[str, str], number: str = ""
) -> J:
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


def has_variables(asked: Mapping[str, Any]) -> bool:
    """Return True if the body brings variables of an application, which has messages of its own."""
    wishes = asked.get(WISHES)
    return isinstance(wishes, Mapping) and bool(wishes.get("variables"))


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


def texts_of(asked: Body, name: str, most: int) -> list[tuple[str, str]]:
    """Return each text with its place in the request (`input`, or `input[3]`).

    Raise Refused for other values, or too many.

    A list of one is one text, at `input[0]`.
    """
    value = asked.get(name)
    if value is None:
        raise missing(name)
    if isinstance(value, str):
        return [(name, value)]
    if not isinstance(value, list | tuple) or not value:
        raise wrong(name, "must be text, or a list of at least one")
    if len(value) > most:
        raise wrong(name, f"at most {most} texts, not {len(value)}: send them in several requests, or as a batch")
    return [(path, _text(item, path)) for index, item in enumerate(value) for path in [f"{name}[{index}]"]]


def _text(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | list):
        raise unsupported(path, _TOKENS)
    raise wrong(path, "must be text")


def role_of(role: object, param: str) -> str:
    """Return the role of a message in a job. Raise Refused for a role that headrace does not have."""
    text = _ROLES.get(role) if isinstance(role, str) else None
    if text is None:
        raise unsupported(param, f"must be one of {', '.join(_ROLES)}")
    return text


def text_of(content: object, parts: dict[str, str], param: str) -> str:
    """Return the content as one text: a text as it is, or parts of text, a line each. Raise Refused for other parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise wrong(param, "must be text, or a list of parts")
    return "\n".join(_texts(content, parts, param))


def _texts(content: Sequence[Any], parts: dict[str, str], param: str) -> Iterator[str]:
    for index, part in enumerate(content):
        path = f"{param}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is None:
            raise missing(f"{path}.type")
        field = parts.get(kind) if isinstance(kind, str) else None
        if field is None:
            raise unsupported(f"{path}.type", f"must be one of {', '.join(parts)}: headrace reads text only")
        text = _PART.given(part, path).get(field)
        if not isinstance(text, str):
            raise wrong(f"{path}.{field}", "must be text")
        yield text


def wants_stream(asked: Body) -> tuple[bool, bool]:
    """Return whether to stream, and whether to report usage at the stream's end. Raise Refused for a contradiction."""
    stream = flag(asked, "stream")
    options = _OPTIONS.given(asked.get("stream_options", {}), "stream_options")
    with_usage = flag(options, "include_usage", within="stream_options.")
    if with_usage and not stream:
        raise unsupported("stream_options", "is only for stream=true: leave it out")
    return stream, with_usage
