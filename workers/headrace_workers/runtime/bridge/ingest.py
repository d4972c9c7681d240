"""Ingest from Kafka into the ledger: poll, decide about each record, and write all of them and the positions in one
transaction.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, NoReturn

from headrace_producers.any_record import Unreadable
from headrace_schemas.topics import Topic, topic_of
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, Record, forgotten
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.positions import PositionsMoved
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KafkaUnavailable, awaited
from headrace_workers.core.progress import Awaited
from headrace_workers.runtime.bridge.duty import IncidentReporter, LedgerTime
from headrace_workers.runtime.bridge.fetches import Fetches, PartitionWatch
from headrace_workers.runtime.bridge.partitions import DUTY, Partitions
from headrace_workers.runtime.bridge.record_admission import Accepted, RecordAdmission, RoundBudget
from headrace_workers.runtime.wire.assignment import Assigner, alone
from headrace_workers.runtime.wire.hints import Hint

_Polled = Mapping[Any, Sequence[Any]]  # records by partition

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_REST = 0.25  # seconds to the next look while another bridge reads
SILENCE = 10.0  # seconds without an answer to a fetch, before Kafka is said to be away
LOOK_EVERY = 1.0  # seconds between looks at how full the ledger is, and at what is wrong
_HELD_UP = 1.0  # seconds between two of those looks, or polls: a broker takes longer to come back with another log
_INTERRUPTED = 1.0  # seconds without an answer to a fetch, after which the log may be another
_RESUME_AT = 0.9  # of the bound
# Seconds that the records of one poll may take to be admitted; the others are read again. A new format may take a
# second to compile, and a bridge whose round lasts for minutes would be taken for stuck.
_ADMITTING = 5.0
# Seconds between commits while records keep coming: they are for the broker's tools.
_COMMIT_EVERY = 1.0


def unquoted(reason: str) -> str:
    """Return a reason for the log, which holds no text of senders: what is quoted is left out."""
    return _QUOTED.sub("'…'", reason)[:120]


class Ingest:
    """Ingest by one consumer. Belongs to the thread that calls `once`."""

    def __init__(
        self,
        *,
        partitions: Partitions,
        prefix: str,
        ledger: Ledger,
        rules: AdmissionRules,
        max_active: int,
        retention: float,
        clock: Clock,
        incidents: IncidentReporter,
        assigner: Assigner,
        check_cluster: Callable[[], None] = lambda: None,
    ) -> None:
        self._partitions = partitions
        self._prefix = prefix
        self._ledger = ledger
        self._rules = rules
        self._max_active = max_active
        self._retention_ms = int(retention * 1000)
        self._clock = clock
        self._incidents = incidents
        self._assigner = assigner
        self._check_cluster = check_cluster
        self._watch = PartitionWatch(clock)
        self._ledger_time = LedgerTime(ledger, clock)
        self._consumer: Any = None  # the one that `_fetches` follows
        self._fetches: Fetches
        self._looked_at = float("-inf")
        self._polled_at = float("inf")
        self._full = False
        self._taken_since = True  # the last look at how full the ledger is
        self._waits: Awaited | None = None
        self._uncommitted_since: float | None = None

    def once(self, tell: Callable[[Hint], object]) -> Awaited | None:
        """Take in the records of one poll, and return a lasting reason why a part cannot be read, if there is one.

        `tell` is called with the hints that follow. The positions are committed to Kafka in the next lull.
        """
        consumer = self._open()
        if consumer is None:
            time.sleep(_REST)
            return self._waits
        self._look(consumer)
        self._pause(consumer)
        polled = self._poll(consumer)
        try:
            unread = self._partitions.unread(polled, self._fetches.interruption() > _INTERRUPTED)
            if not unread:
                self._commit()
                return self._waits
            hints = self._take(unread)
        except PositionsMoved:
            self._partitions.seek()
            return self._waits
        except BaseException:
            self._rewind(polled)
            raise
        for hint in hints:
            tell(hint)
        now = self._clock.monotonic()
        if self._uncommitted_since is None:
            self._uncommitted_since = now
        elif now - self._uncommitted_since > _COMMIT_EVERY:
            self._commit()
        return self._waits

    def _poll(self, consumer: Any) -> Mapping[Any, Sequence[Any]]:
        now = self._clock.monotonic()
        if now - self._polled_at > _REST:
            self._fetches.polls()
        if now - self._polled_at > _HELD_UP:
            self._partitions.doubt()
        polled: Mapping[Any, Sequence[Any]] = consumer.poll(timeout_ms=self._partitions.poll_ms)
        self._polled_at = self._clock.monotonic()
        return polled

    def close(self) -> None:
        """Let go of the partitions, so that others take over at once."""
        self._consumer = None
        self._partitions.close()

    def _open(self) -> Any:
        try:
            self._check_cluster()
            consumer = self._partitions.open()
        except KafkaUnavailable as failure:
            self._without(failure)
            raise
        if consumer is not self._consumer:
            self._consumer, self._uncommitted_since = consumer, None
            self._polled_at = self._clock.monotonic()
            if consumer is not None:
                self._fetches = Fetches(consumer, self._clock)
        if consumer is None and not self._partitions.gives_way:  # others read
            self._say({})
        return consumer

    def _commit(self) -> None:
        if self._uncommitted_since is not None:
            self._partitions.commit()
            self._uncommitted_since = None

    def _take(self, polled: Mapping[Any, Sequence[Any]]) -> list[Hint]:
        now, sent = self._ledger_time.ms(), _in_turns(polled)
        budget = RoundBudget(_ADMITTING, self._clock.monotonic)
        admitted = RecordAdmission(self._rules, now).admit_all([self._record(raw) for _, raw in sent], budget)
        found = [(polled, item) for polled, item in zip(sent, admitted, strict=True) if item is not None]
        left = [polled for polled, item in zip(sent, admitted, strict=True) if item is None]
        following = self._partitions.following(_by_partition([polled for polled, _ in found]))
        decided = [self._decided(raw, item, now) for (_, raw), item in found]
        jobs = [item for item in decided if isinstance(item, NewJob)]
        refused = [item for item in decided if isinstance(item, Burial)]
        cancellations = [item for item in decided if isinstance(item, Cancellation)]
        reviews = [item for item in decided if isinstance(item, ReceivedReview)]
        room = self._assigner.room(lone) if (lone := alone(jobs)) else None
        written = self._ledger.ingest(jobs, refused, cancellations, following, room, reviews)
        self._partitions.written(following)
        self._rewind(_by_partition(left))
        self._taken_since = True
        self._assigner.send(written.assigned)
        new = written.new
        log("ingest", logging.DEBUG, Action.TAKEN, "took jobs in", new=new, known=len(jobs) - new)
        if refused:
            reasons = "; ".join(sorted({unquoted(burial.reason) for burial in refused})[:3])
            log("ingest", logging.WARNING, Action.REFUSED, f"refused: {reasons}", records=len(refused))
        events = refused or cancellations or reviews or new < len(jobs)
        work = cancellations or len(jobs) > len(written.assigned)  # what ends may be waited for, or followed
        return [Hint.WORK] * bool(work) + [Hint.EVENTS, Hint.ENDS] * bool(events)

    def _decided(self, raw: Any, found: Accepted, now: int) -> Accepted:
        """Refuse a job that was read before its log was restored, and that may have been answered."""
        if not isinstance(found, NewJob) or found.record.timestamp >= now - self._retention_ms:
            return found
        return forgotten(found.record, found.id, found.tenant) if self._partitions.read_before(raw) else found

    def _rewind(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        """Read again what was polled and not written."""
        from kafka.errors import KafkaError

        try:
            for partition, batch in polled.items():
                self._consumer.seek(partition, batch[0].offset)
        except (KafkaError, KeyError, AssertionError):  # no longer ours: its next reader begins where the ledger says
            self._consumer = None
            self._partitions.close()

    def _record(self, raw: Any) -> Record:
        topic = topic_of(raw.topic, self._prefix)
        unreadable = raw.headers.reason if isinstance(raw.headers, Unreadable) else None
        headers, timestamp = tuple(raw.headers or ()), raw.timestamp or 0
        return Record(topic, raw.partition, raw.offset, headers, raw.value, timestamp, raw.key, unreadable)

    def _look(self, consumer: Any) -> None:
        """Check now and then how full the ledger is, and whether a partition fails."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_EVERY:
            return
        held_up = now - self._looked_at > _HELD_UP  # by the ledger, say: nobody polled meanwhile
        self._looked_at = now
        if self._full or self._taken_since:  # counting costs, and only jobs that were taken in fill the ledger
            self._count()
        left_alone = self._left_alone(consumer)
        self._say(self._watch.look(consumer, self._fetches.last, left_alone))
        # The library tries for ever, and does not say so to its caller.
        silence = self._fetches.silence(not held_up and bool(consumer.assignment() - set(left_alone)))
        if silence > SILENCE:
            self._give_way(KafkaUnavailable(f"no fetch has been answered for {silence:.0f} s"))

    def _give_way(self, failure: KafkaUnavailable) -> NoReturn:
        """Leave the partitions to other bridges, which may reach what this one does not. Raises the failure."""
        self._partitions.give_way()
        self._without(failure)
        raise failure

    def _without(self, failure: KafkaUnavailable) -> None:
        self._consumer, self._waits = None, awaited(failure)
        self._incidents.tell(DUTY, {"": str(failure)})

    def _count(self) -> None:
        active = self._ledger.active_jobs()
        self._taken_since = False
        if not self._full and active >= self._max_active:
            log("ingest", logging.WARNING, Action.PAUSED, "the ledger is full: ingest waits", active=active)
            self._full = True
        elif self._full and active <= self._max_active * _RESUME_AT:
            log("ingest", logging.INFO, Action.RESUMED, "ingest goes on", active=active)
            self._full = False

    def _say(self, incidents: dict[str, str]) -> None:
        self._incidents.tell(DUTY, incidents)
        self._waits = None
        if incidents:
            reasons = "; ".join(f"{subject} {reason}".lstrip() for subject, reason in incidents.items())
            self._waits = Awaited("what it is to read", reasons[:1_000])

    def _left_alone(self, consumer: Any) -> Collection[Any]:
        """Return the partitions that are not read now: all but cancellations, which make room, while the ledger is
        full. Polling goes on, so that connections stay.
        """
        resting = self._fetches.resting()
        if not self._full:
            return resting
        cancellations = Topic.CANCELLATION.named(self._prefix)
        return {*resting, *(partition for partition in consumer.assignment() if partition.topic != cancellations)}

    def _pause(self, consumer: Any) -> None:
        # Again and again: partitions may have been assigned since.
        wanted, paused = set(self._left_alone(consumer)) & consumer.assignment(), consumer.paused()
        if wanted - paused:
            consumer.pause(*(wanted - paused))
        if paused - wanted:
            consumer.resume(*(paused - wanted))


def _in_turns(polled: _Polled) -> list[tuple[Any, Any]]:
    """Return the records of a poll, each with its partition: the first ones of all partitions, then the second ones."""
    numbered = [(place, partition, raw) for partition, batch in polled.items() for place, raw in enumerate(batch)]
    return [(partition, raw) for _, partition, raw in sorted(numbered, key=itemgetter(0))]


def _by_partition(records: Sequence[tuple[Any, Any]]) -> _Polled:
    found: dict[Any, list[Any]] = {}
    for partition, raw in records:
        found.setdefault(partition, []).append(raw)
    return found
