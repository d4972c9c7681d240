"""The lines of a batch's input: requests in the form of OpenAI's Batch API, the jobs that lines become, and their
admission. Pure but for what `admit` asks.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import Row

from headrace_schemas import Envelope
from headrace_schemas.codec import decode_value, encode_given
from headrace_schemas.errors import HeadraceError, InvalidRecord
from headrace_schemas.event_types import Event, EventType, job_type, kind_of
from headrace_schemas.job import AnyJob, JudgedJob, Lane
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.job_defaults import Defaults, NoKind
from headrace_workers.core.json_lines import NoJSON, Read, parsed_object
from headrace_workers.core.ledger.dead_letters import Burial, Record
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.log import Action, log
from headrace_workers.core.scopes import resources_named_by
from headrace_workers.core.tables import NEVER
from headrace_workers.features.batches.store.feeding import NewLine
from headrace_workers.features.generation.openai.endpoint import ENDPOINTS
from headrace_workers.features.generation.openai.request import OpenAIRequest, RequestContext
from headrace_workers.http.openai import Refused, refused
from headrace_workers.runtime.bridge.record_admission import Accepted

INVALID: Final = "invalid"
FORBIDDEN: Final = "forbidden"
_SOURCE: Final = "/headrace/batches"

Admit = Callable[[Record], Accepted]


class NoJob(Exception):
    """A line that makes no job: a code, the reason, and the field of the line that is at fault, if there is one.

    `error` is the one of admission, where that refused the job.
    """

    def __init__(self, code: str, reason: str, param: str | None = None, error: HeadraceError | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.param = param
        self.error = error


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that all lines of a batch share. `expires_at` in ms since 1970."""

    batch_id: str
    number: int
    tenant: str
    expires_at: int
    defaults: Defaults
    endpoint: str | None = None
    withheld: frozenset[str] = frozenset()  # families of resources that no line may name

    @property
    def own_keys(self) -> bool:
        """Return True where the key of a line is its job's, as with a job that comes by Kafka."""
        return self.defaults.own_keys

    def key(self, line: int) -> str:
        """Return the idempotency key of a line's job: the job's id depends on nothing else but the tenant."""
        return f"batch:{self.batch_id}:{line}"


def terms_of(batch: Row[Any]) -> Terms:
    """Return the terms that all lines of a batch share."""
    return Terms(
        batch_id=batch.id,
        number=batch.number,
        tenant=batch.tenant,
        expires_at=batch.expires_at,
        defaults=Defaults.from_json(batch.defaults),
        endpoint=batch.endpoint,
        withheld=frozenset((batch.withheld or "").split()),
    )


def admitted_job(kind: EventType, value: bytes, number: int, terms: Terms, admit: Admit) -> NewJob:
    """Return the job that a record from Kafka with this value would become. Raise NoJob where it is refused."""
    if terms.withheld:  # before anything is looked up: the answer does not tell if the resource exists
        with suppress(HeadraceError):  # `admit` says what is wrong with the record
            _refuse_withheld(decode_value(kind.name, value), terms)
    found = admit(Record(kind.topic, 0, number, _headers(kind, number, terms), value))
    if isinstance(found, NewJob):
        return replace(found, batch=terms.number, line=number, steps=tuple(_due(step, terms) for step in found.steps))
    if isinstance(found, Burial):
        param = None if found.error is None else found.error.param
        raise NoJob(str(found.category), found.reason, param, found.error)
    raise InvalidRecord(f"{kind.name} is no job")


def _due(step: NewStep, terms: Terms) -> NewStep:
    """Make a step urgent only by a deadline of its own: it expires at the end of the batch's window, too."""
    own = step.deadline < terms.expires_at - 1  # that end passes a header, as a time of whole microseconds
    return step if own else step._replace(due=NEVER)


def _refuse_withheld(job: Event, terms: Terms) -> None:
    """Raise NoJob where a line names what the key that submitted the batch may not read."""
    for place, family in resources_named_by(job).items() if isinstance(job, AnyJob) else ():
        if family in terms.withheld:
            raise NoJob(FORBIDDEN, f"{place}: the key that submitted this batch lacks the scope {family}:read", place)


def _headers(kind: EventType, number: int, terms: Terms) -> tuple[tuple[str, bytes | None], ...]:
    envelope = Envelope(
        id=terms.key(number),
        type=kind.name,
        source=_SOURCE,
        time=datetime.now(UTC),
        correlationid=terms.batch_id,
        expirytime=datetime.fromtimestamp(terms.expires_at / 1000, UTC),
    )
    return tuple(envelope.to_headers())


# Lines in the form of OpenAI's Batch API: requests that become jobs, and answers in the shape of OpenAI's.
#
# `features/generation/openai` reads requests and writes answers. The same line gives the same jobs, so that it
# can be read once more when it is answered.

# What OpenAI's own Batch API takes, and the legacy endpoint.
URLS: Final = tuple(ENDPOINTS)
_FIELDS: Final = frozenset({"custom_id", "method", "url", "body"})
_WRONG: Final = "invalid_value"
_FAULT: Final = "internal"


def is_request(line: Mapping[str, Any]) -> bool:
    """Return True where a line is meant as a request, and is no job of headrace."""
    return "body" in line and ("custom_id" in line or "url" in line)


def jobs_of_request(
    line: Mapping[str, Any], number: int, terms: Terms, admit: Admit
) -> tuple[tuple[NewJob, ...], bool]:
    """Return the jobs of a line's request, and True if a model judges their answers. Raise NoJob if it is refused."""
    request = read(line, number, terms)
    if request.stream:
        raise NoJob("unsupported_parameter", "body.stream: a batch has no streams; leave it out", "body.stream")
    jobs = []
    for job in request.jobs:
        kind = job_type(kind_of(job))
        assert kind is not None  # noqa: S101 - of a kind of job
        try:
            jobs.append(admitted_job(kind, encode_given(job), number, terms, admit))
        except NoJob as error:
            raise _as_request(error, request) from None
    return tuple(jobs), any(isinstance(job, JudgedJob) and job.asks_judge for job in request.jobs)


def _as_request(error: NoJob, request: OpenAIRequest) -> NoJob:
    """Return the refusal of a job in OpenAI's words: its code, and the parameter of the request's body."""
    if error.error is None:
        return error
    found = refused(error.error, request.prompt, request.names)
    param = None if found.param is None else f"body.{found.param}"
    return NoJob(found.code or error.code, str(error), param)


def read(line: Mapping[str, Any], number: int, terms: Terms) -> OpenAIRequest:
    """Return the request that a line holds. Raise NoJob where it holds none that can be answered."""
    if missing := sorted(_FIELDS - line.keys()):
        words = f"{', '.join(missing)} is missing: a request has custom_id, method, url and body"
        raise NoJob("missing_required_parameter", words, missing[0])
    if unknown := sorted(line.keys() - _FIELDS):
        words = f"{unknown[0]}: a request has custom_id, method, url and body, and nothing else"
        raise NoJob("unknown_parameter", words, unknown[0])
    if line["custom_id"] is None:
        raise NoJob(_WRONG, "custom_id: must be a text", "custom_id")
    if line["method"] != "POST":
        raise NoJob(_WRONG, f"method is {line['method']!r}; it must be POST", "method")
    url, body = line["url"], line["body"]
    if terms.endpoint is not None and url != terms.endpoint:
        raise NoJob(_WRONG, f"url is {url!r}, and all lines of this batch go to {terms.endpoint}", "url")
    endpoint = ENDPOINTS.get(url) if isinstance(url, str) else None
    if endpoint is None:
        raise NoJob(_WRONG, f"url is {url!r}; it may be {', '.join(URLS)}", "url")
    if not isinstance(body, dict):
        raise NoJob(_WRONG, "body: must be a JSON object", "body")
    try:
        return endpoint(body, context_of(number, terms))
    except Refused as error:
        param = "body" if error.param is None else f"body.{error.param}"
        raise NoJob(error.code or _WRONG, f"body: {error}", param) from None
    except Exception as error:  # of ours: one line that meets it must not stop the batch
        log("batches", logging.ERROR, Action.STEP_FAILED, f"a line could not be read: {type(error).__name__}",
            batch=terms.batch_id, line=number)  # fmt: skip
        raise NoJob(_FAULT, f"headrace failed to read it: {type(error).__name__}") from error


def context_of(number: int, terms: Terms) -> RequestContext:
    """Return who asks by a line."""
    deadline = datetime.fromtimestamp(terms.expires_at / 1000, UTC)
    return RequestContext(tenant=terms.tenant, key=terms.key(number), lane=Lane.BATCH, deadline=deadline)


def job_ids(request: OpenAIRequest) -> list[str]:
    """Return the ids of a request's jobs, in order."""
    return [job.job_id("") for job in request.jobs]


LONGEST_LINE: Final = 8 * MAX_VALUE_BYTES  # bytes: JSON may write one character as six
_LONGEST_NAME: Final = 256  # characters of a custom_id
_LANE: Final = {"lane": "batch"}


def admitted(read: Read, terms: Terms, admit: Admit) -> NewLine:
    """Return a line that is to be run, with its jobs or the reason why it makes none. Raises nothing."""
    named: str | None = None
    try:
        line = _object(read)
        named = name_of(line)
        if is_request(line):
            jobs, judged = jobs_of_request(line, read.number, terms, admit)
            return NewLine(read.number, read.end, named, jobs, _cost(jobs, judged=judged), read.text)
        jobs = (_plain(line, read.number, terms, admit),)
    except NoJob as error:
        return NewLine(read.number, read.end, named, code=error.code, reason=str(error), param=error.param)
    return NewLine(read.number, read.end, named, jobs, tokens=_cost(jobs, judged=_is_judged(line)))


def _cost(jobs: tuple[NewJob, ...], *, judged: bool) -> int:
    """Return what jobs may cost at most, in tokens: a model that judges reads question and answer once more."""
    tokens = sum(job.cost for job in jobs)
    return 2 * tokens if judged else tokens


def _is_judged(line: Mapping[str, Any]) -> bool:
    criteria = line.get("criteria") or ()
    return any(isinstance(criterion, dict) and criterion.get("criterion") == "rubric" for criterion in criteria)


def passed_over(read: Read) -> NewLine:
    """Return a line that is not to be run: only its name is read."""
    try:
        return NewLine(read.number, read.end, name_of(_object(read)))
    except NoJob as error:
        return NewLine(read.number, read.end, code=error.code, reason=str(error), param=error.param)


def _object(read: Read) -> dict[str, Any]:
    if read.too_long:
        raise NoJob(INVALID, f"the line has more than the {LONGEST_LINE:,} bytes that are taken")
    try:
        return parsed_object(read.text)
    except NoJSON as error:
        raise NoJob(INVALID, str(error)) from None


def name_of(line: Mapping[str, Any]) -> str | None:
    """Return the name of a line: `custom_id`, or the idempotency key of a job. Raise NoJob where it is no name."""
    field = "custom_id" if "custom_id" in line else "idempotency_key"
    name = line.get(field)
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\x00" in name:
        raise NoJob(INVALID, f"{field} must be a text of 1 to {_LONGEST_NAME} characters, without NUL", field)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise NoJob(INVALID, f"{field} holds half of a surrogate pair, which is no character", field) from None
    return name


def _plain(line: dict[str, Any], number: int, terms: Terms, admit: Admit) -> NewJob:
    """Return the job of a line in headrace's own form. Its id is the line's; its own key is only its name, but in a
    batch of own keys.
    """
    if terms.endpoint is not None:
        raise NoJob(
            INVALID, f"it is no request to {terms.endpoint}: `custom_id`, `method`, `url` and `body` are needed", "url"
        )
    if "custom_id" in line:
        raise NoJob(
            INVALID,
            "custom_id: is a request's, with method, url and body; a job has its `idempotency_key`",
            "custom_id",
        )
    try:
        kind, filled = terms.defaults.fill(line)
    except NoKind as error:
        raise NoJob(INVALID, str(error)) from None
    filled = {**_LANE, **filled}
    if not (terms.own_keys and "idempotency_key" in filled):
        filled["idempotency_key"] = terms.key(number)
    if filled.setdefault("tenant", terms.tenant) != terms.tenant:
        raise NoJob(INVALID, f"tenant is {filled['tenant']!r}, and the batch is {terms.tenant!r}'s", "tenant")
    try:
        value = to_json(filled)
    except ValueError as error:  # a text with half of a surrogate pair
        raise NoJob(INVALID, f"it cannot be written as JSON: {error}") from None
    return admitted_job(kind, value, number, terms, admit)
