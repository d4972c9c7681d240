"""From a line of a batch's input to its jobs, or to the reason why it makes none. Pure but for what `admit` asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from headrace_schemas import Envelope
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import EventType
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.batches.defaults import Defaults, NoKind
from headrace_workers.batches.json_lines import NoJSON, Read, parsed
from headrace_workers.ledger.batches import NewLine
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.dead import Burial
from headrace_workers.ledger.ingest import NewJob
from headrace_workers.ledger.records import Record

LONGEST_LINE: Final = 8 * MAX_VALUE_BYTES  # bytes: JSON may write one character as six
INVALID: Final = "invalid"
_LONGEST_NAME: Final = 256  # characters of a custom_id
_SOURCE: Final = "/headrace/batches"
_LANE: Final = {"lane": "batch"}

# The door that records pass: what a record becomes.
Admit = Callable[[Record], NewJob | Cancellation | Burial]


class NoJob(Exception):
    """A line that makes no job: a code and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Terms:
    """What all lines of a batch share. `expires_at` in ms since 1970."""

    batch_id: str
    number: int
    tenant: str
    expires_at: int
    defaults: Defaults
    endpoint: str | None = None

    def key(self, line: int) -> str:
        """The idempotency key of the job that a line becomes: its id depends on nothing else but the tenant."""
        return f"batch:{self.batch_id}:{line}"


def admitted(read: Read, terms: Terms, admit: Admit) -> NewLine:
    """A line that is to be run. Whatever is in it, this returns."""
    named: str | None = None
    try:
        line = _object(read)
        named = name_of(line)
        jobs = (_plain(line, read.number, terms, admit),)
    except NoJob as error:
        return NewLine(read.number, read.end, named, code=error.code, reason=str(error))
    return NewLine(read.number, read.end, named, jobs, tokens=sum(step.tokens for job in jobs for step in job.steps))


def passed_over(read: Read) -> NewLine:
    """A line that is not to be run: only what it is called is read."""
    try:
        return NewLine(read.number, read.end, name_of(_object(read)))
    except NoJob as error:
        return NewLine(read.number, read.end, code=error.code, reason=str(error))


def _object(read: Read) -> dict[str, Any]:
    if read.too_long:
        raise NoJob(INVALID, f"the line has more than the {LONGEST_LINE:,} bytes that are taken")
    try:
        line = parsed(read.text)
    except NoJSON as error:
        raise NoJob(INVALID, str(error)) from None
    if not isinstance(line, dict):
        raise NoJob(INVALID, f"it must be a JSON object, not {_kind(line)}")
    return line


def name_of(line: Mapping[str, Any]) -> str | None:
    """What its sender calls a line: `custom_id`, or the idempotency key of a job. NoJob where it is no name."""
    field = "custom_id" if "custom_id" in line else "idempotency_key"
    name = line.get(field)
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\x00" in name:
        raise NoJob(INVALID, f"{field} must be a text of 1 to {_LONGEST_NAME} characters, without NUL")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise NoJob(INVALID, f"{field} holds half of a surrogate pair, which is no character") from None
    return name


def _plain(line: dict[str, Any], number: int, terms: Terms, admit: Admit) -> NewJob:
    """A job as headrace writes it. Its id is the line's, so its own key is its name only."""
    if terms.endpoint is not None:
        raise NoJob(
            INVALID, f"it is no request to {terms.endpoint}: `custom_id`, `method`, `url` and `body` are needed"
        )
    try:
        kind, filled = terms.defaults.fill(line)
    except NoKind as error:
        raise NoJob(INVALID, str(error)) from None
    filled = {**_LANE, **filled, "idempotency_key": terms.key(number)}
    if filled.setdefault("tenant", terms.tenant) != terms.tenant:
        raise NoJob(INVALID, f"tenant is {filled['tenant']!r}, and the batch is {terms.tenant!r}'s")
    try:
        value = to_json(filled)
    except ValueError as error:  # a text with half of a surrogate pair
        raise NoJob(INVALID, f"it cannot be written as JSON: {error}") from None
    return through_door(kind, value, number, terms, admit)


def through_door(kind: EventType, value: bytes, number: int, terms: Terms, admit: Admit) -> NewJob:
    """A job that passes the checks that a record from Kafka passes; NoJob where it does not."""
    found = admit(Record(kind.topic, 0, number, _headers(kind, number, terms), value))
    if isinstance(found, NewJob):
        return replace(found, batch=terms.number, line=number)
    if isinstance(found, Burial):
        raise NoJob(str(found.category), found.reason)
    raise InvalidRecord(f"{kind.name} is no job")


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


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
