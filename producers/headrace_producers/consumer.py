"""Read the ends of jobs: results, cancellations and dead letters, each once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeGuard

from headrace_producers.admin import missing_topics
from headrace_producers.errors import TopicMissing
from headrace_producers.seen import SeenIds
from headrace_producers.settings import KafkaSettings
from headrace_producers.topic_end import assign_at_end, begin_group_at_end
from headrace_schemas.codec import Event, decode
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import ConfigurationError, InvalidRecord, Unavailable
from headrace_schemas.events import DeadLetter, JobCancelled, Result
from headrace_schemas.topics import Topic

End = Result | JobCancelled | DeadLetter

_TOPICS = (Topic.RESULTS, Topic.DEAD)
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Received:
    """One end of a job with its envelope."""

    envelope: Envelope
    event: End

    @property
    def job_id(self) -> str | None:
        """The job that ended; None for a record that was refused before it had one."""
        return self.event.job_id


class ResultReader:
    """Reads `results` and `dead` from a position that is fixed by `open`.

    Open it before you publish, iterate afterwards, and no answer is missed, however fast it comes. Without a
    `group` every reader sees everything; with one, readers share the records, and what was handed out is committed
    when the next batch is asked for, so that a crash may show some again. A reader belongs to one thread.
    `unreadable` counts records that are not what the contract says; they are passed over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        from_beginning: bool = False,
        group: str | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._from_beginning = from_beginning
        self._group = group
        self._client: Any = None
        self._seen = SeenIds()
        self.unreadable = 0

    def open(self) -> Self:
        """Connect and fix the position: the end of the topics, or their beginning. Opening twice does nothing.

        With a group the position is the group's own; a new group begins where this reader would.
        Raises Unavailable without a broker, TopicMissing without topics.
        """
        if self._client is None:
            from kafka.errors import KafkaError

            from headrace_producers.any_record import read_any_record

            client = self._connect()
            try:
                read_any_record(client)
                self._check_topics()
                self._position(client)
            except KafkaError as error:
                client.close()
                raise Unavailable(
                    f"the topics cannot be read at {self._settings.address}: {type(error).__name__}: {error}"
                ) from error
            except BaseException:
                client.close()
                raise
            self._client = client
        return self

    def read(self, *, job_ids: Collection[str] | None = None, timeout: float | None = None) -> Iterator[Received]:
        """The ends of jobs as they come, each event once.

        With `job_ids` only theirs, until each of them has ended. Stops after `timeout` seconds, counted from the
        first step of the iteration; what is missing then is for the caller to see.
        """
        self.open()
        waiting = None if job_ids is None else set(job_ids)
        until = None if timeout is None else monotonic() + timeout
        while waiting is None or waiting:
            left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, until - monotonic())
            if left <= 0:
                return
            for received in self._poll(left):
                if waiting is None:
                    yield received
                elif received.job_id in waiting:
                    waiting.discard(received.job_id)
                    yield received

    def commit(self) -> None:
        """With a group: note that all that was handed out is done with. Without one there is nothing to note."""
        if self._group is not None and self._client is not None:
            self._client.commit()

    def close(self) -> None:
        """Disconnect. Closing twice does nothing."""
        if self._client is not None:
            self._client.close(autocommit=False)
            self._client = None

    def __iter__(self) -> Iterator[Received]:
        return self.read()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> Any:
        from kafka import KafkaConsumer
        from kafka.errors import KafkaError

        try:
            return KafkaConsumer(
                **self._settings.client_options(),
                group_id=self._group,
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                auto_offset_reset="earliest" if self._from_beginning else "latest",
                bootstrap_timeout_ms=int(self._connect_timeout * 1000),
                reconnect_backoff_max_ms=2_000,
                session_timeout_ms=6_000,  # some brokers let a first member wait half of it
                heartbeat_interval_ms=2_000,
            )
        except KafkaError as error:
            raise Unavailable(
                f"no Kafka broker answers at {self._settings.address} ({type(error).__name__}); "
                "start it, or set HEADRACE_KAFKA"
            ) from error

    def _check_topics(self) -> None:
        # Some brokers create a topic that is merely asked about, and a reader would wait on it forever.
        if missing := missing_topics(self._settings, _TOPICS, timeout=self._connect_timeout):
            names = ", ".join(self._settings.topic(topic) for topic in missing)
            raise TopicMissing(f"topics {names} are not there on {self._settings.address}: `headrace up` creates them")

    def _position(self, client: Any) -> None:
        from kafka import TopicPartition

        names = [self._settings.topic(topic) for topic in _TOPICS]
        partitions = [
            TopicPartition(name, number) for name in names for number in client.partitions_for_topic(name) or ()
        ]
        if self._group is not None:
            if not self._from_beginning:
                begin_group_at_end(client, partitions, timeout=self._connect_timeout)
            client.subscribe(names)
            return
        # Sought here: the library's seek_to_… would look only at the first poll, after the caller has published.
        if not self._from_beginning:
            assign_at_end(client, partitions, timeout=self._connect_timeout)
            return
        client.assign(partitions)
        for partition, offset in client.beginning_offsets(partitions).items():
            client.seek(partition, offset)

    def _poll(self, seconds: float) -> Iterator[Received]:
        batches = self._client.poll(timeout_ms=max(1, int(seconds * 1000)))
        for records in batches.values():
            for record in records:
                received = self._received(record)
                if received is not None:
                    yield received
        if batches:
            self.commit()

    def _received(self, record: Any) -> Received | None:
        try:
            envelope, event = decode(record.headers, record.value)
        except InvalidRecord:
            self.unreadable += 1
            return None
        if not _is_end(event):
            self.unreadable += 1
            return None
        return Received(envelope, event) if self._seen.is_new(envelope.id) else None


def results(
    settings: KafkaSettings | None = None,
    *,
    from_beginning: bool = False,
    job_ids: Collection[str] | None = None,
    group: str | None = None,
    timeout: float | None = None,
) -> Iterator[Received]:
    """The ends of jobs as they come (see `ResultReader.read`). Settings come from the environment when not given.

    The position is fixed when the iteration begins: to wait for what you publish, open a `ResultReader` first.
    """
    if group is not None and job_ids is not None:
        raise ConfigurationError("give either group or job_ids: a group's other readers would get some of the answers")
    with ResultReader(settings or KafkaSettings.from_env(), from_beginning=from_beginning, group=group) as reader:
        yield from reader.read(job_ids=job_ids, timeout=timeout)


def _is_end(event: Event) -> TypeGuard[End]:
    return isinstance(event, End)
