"""A request of an OpenAI client as headrace sees it: jobs, and a function that makes the answer from their results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace_schemas import DeadLetter
from headrace_schemas.job import AnyJob, Lane
from headrace_workers.http.openai_errors import End

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asker:
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
class Request:
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
