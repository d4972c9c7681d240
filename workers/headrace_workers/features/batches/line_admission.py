"""Admission of the jobs that lines make: they pass the checks that a record from Kafka passes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row

from headrace_schemas import Envelope
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import HeadraceError, InvalidRecord
from headrace_schemas.event_types import Event, EventType
from headrace_schemas.job import AnyJob
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.dead_letters import Burial, Record
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.named_resources import named_by
from headrace_workers.core.tables import NEVER
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
    found = admit(Record(kind.topic, 0, number, _headers(kind, number, terms), value))
    if isinstance(found, NewJob):
        if terms.withheld:
            _refuse_withheld(decode_value(kind.name, value), terms)
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
    for place, family in named_by(job).items() if isinstance(job, AnyJob) else ():
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
