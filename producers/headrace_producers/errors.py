"""Errors of publishing. All are HeadraceError."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError, Unavailable


class InvalidJob(HeadraceError):
    """The arguments make no valid job: nothing was sent. The message names each wrong field."""

    category = Category.INVALID


class TopicMissing(ConfigurationError):
    """The broker answers, but a topic of headrace is not there."""


class BufferFull(Unavailable):
    """Records come faster than the broker takes them: the job was not sent. Wait, and call again."""


class RecordRefused(HeadraceError):
    """The broker does not have this record, and will never take it unchanged."""


class RecordTooLarge(RecordRefused):
    """The record has more bytes than its topic takes."""


class WriteForbidden(RecordRefused):
    """The broker's access lists do not let this user write to the topic."""


class ProducerClosed(HeadraceError):
    """The producer was closed, or belongs to the process that forked this one."""


CLOSED: Final = "the producer is closed: build a new one"


def no_broker(address: str, error: Exception) -> Unavailable:
    """Return the error for a Kafka broker that does not answer at its address."""
    return Unavailable(
        f"no Kafka broker answers at {address} ({type(error).__name__}); start it, or set HEADRACE_KAFKA"
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that the broker did not confirm."""

    job_id: str
    reason: str


class DeliveryFailed(Unavailable):
    """The broker did not confirm some records.

    They may or may not be in the topic. Sending the same job again with the same idempotency key is safe.
    `failures` holds at most the first 10,000; `count` is the number of all.
    """

    def __init__(self, failures: Sequence[Failure], count: int | None = None) -> None:
        self.failures = tuple(failures)
        self.count = len(self.failures) if count is None else count
        shown = "; ".join(f"{failure.job_id}: {failure.reason}" for failure in self.failures[:5])
        more = f" (and {self.count - 5} more)" if self.count > 5 else ""
        super().__init__(
            f"{self.count} records were not confirmed by the broker, send them again: {shown}{more}. "
            "With an idempotency key that is safe."
        )

    @property
    def job_ids(self) -> tuple[str, ...]:
        """Return the jobs that the failures belong to, in order."""
        return tuple(failure.job_id for failure in self.failures)
