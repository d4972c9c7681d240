"""Jobs whose answer was wrong, sent again: as new jobs that name the old, each once however often it is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace_producers.errors import InvalidJob
from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job
from headrace_schemas.limits import MAX_METADATA
from headrace_schemas.recall import CacheMode

if TYPE_CHECKING:
    from headrace_producers import Producer

RERUN_OF = "rerun_of"  # the name in a job's metadata under which stands the job that it answers afresh
_CHUNK = 1_000  # jobs between two waits for the broker


@dataclass(frozen=True, slots=True)
class Rerun:
    """A job that is asked again: the old id, the new one, and whether it was sent now or before; or why it is not."""

    job_id: str
    rerun: str | None
    state: str  # sent | sent before | not sent
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class New:
    """A job to be sent in the place of another."""

    old: str
    job: GenerationJob
    correlationid: str | None

    @property
    def key(self) -> str:
        """Return its idempotency key, which is the id of its event, too."""
        return self.job.idempotency_key or ""

    @property
    def job_id(self) -> str:
        """Return the new id."""
        return self.job.job_id(self.key)


def renewed(job_id: str, entry_id: int, row: Any | None) -> New | Rerun:
    """Return the job to send in the place of this one, or why there is none. `row` is one of `Ledger.to_ask_again`.

    Its key comes from the old job and the answer that was wrong. Its deadline is left out, as it may have passed.
    """
    if row is None:
        return _not(job_id, "its content is no longer in the ledger")
    if row.state in ("dead", "cancelled"):
        return _not(job_id, f"it is {row.state}: it told nobody an answer")
    job = decode_job(row.kind, bytes(row.payload))
    if not isinstance(job, GenerationJob):
        return _not(job_id, f"it is of the kind {row.kind}")
    metadata = {**job.metadata, RERUN_OF: job_id}
    if len(metadata) > MAX_METADATA:
        return _not(
            job_id, f"its metadata has no room for `{RERUN_OF}`: more than {MAX_METADATA} entries are not taken"
        )
    changed = {
        "cache": CacheMode.OFF, "max_age": None, "deadline": None, "metadata": metadata,
        "idempotency_key": f"rerun:{job_id}:{entry_id}",
    }  # fmt: skip
    return New(job_id, job.model_copy(update=changed), row.correlationid)


def send(new: Sequence[New], producer: "Producer", done: Callable[[Rerun], None]) -> None:
    """Send these and tell of each once the broker has it. Raise Unavailable when it does not take them."""
    for start in range(0, len(new), _CHUNK):
        futures = [_send(each, producer) for each in new[start : start + _CHUNK]]
        producer.flush()
        for each in futures:
            done(each)


def _send(new: New, producer: "Producer") -> Rerun:
    try:
        producer.submit(new.job, event_id=new.key, correlationid=new.correlationid)
    except InvalidJob as error:  # it was as large as may be, and is larger now
        return _not(new.old, str(error))
    return Rerun(new.old, new.job_id, "sent")


def _not(job_id: str, reason: str) -> Rerun:
    return Rerun(job_id, None, "not sent", reason)
