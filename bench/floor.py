"""The floor of latency: what one job cannot do without, each part timed alone on the same services.

A job is published and read by the bridge, and its result is published and read by whoever waits: two ways through
Kafka. It is taken in, its answer is written, and its end: three commits that must not be lost. Two groups are begun:
two commits that may be lost. It goes to the model's worker and on to the next: two hand-overs over Celery.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import sqlalchemy

from bench.ends import Stalled
from bench.peers import handover_peer as peer
from bench.services import Services
from headrace_producers.admin import ensure_topics
from headrace_producers.attentive import attend
from headrace_producers.topic_end import assign_at_end
from headrace_schemas import Topic
from headrace_workers.core.sql.database import connect, writing
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start, stop

_VALUE = b"x" * 500  # bytes: about what a job, or an event of it, is
_SECONDS = 30.0
# How often one echo job does each.
TIMES = {"kafka": 2, "commit": 3, "hasty commit": 2, "hand-over": 2}

Part = Callable[[], object]


@contextmanager
def floor(there: Services) -> Iterator[Callable[[], dict[str, float]]]:
    """Yields a measurement: ms of each part of TIMES, done once."""
    with ExitStack() as stack:
        parts: dict[str, Part] = {
            "kafka": stack.enter_context(_kafka(there)),
            "hand-over": stack.enter_context(_hand_over(there)),
        }
        ledger = there.new_database() or f"sqlite:///{there.folder / 'floor.db'}"
        for name, durable in (("commit", True), ("hasty commit", False)):
            parts[name] = stack.enter_context(_commit(ledger, durable))
        yield lambda: {name: _timed(part) for name, part in parts.items()}


def total(parts: dict[str, float]) -> float:
    """What a job pays for its parts, in ms."""
    return sum(parts[name] * times for name, times in TIMES.items())


def _timed(part: Part) -> float:
    begun = time.perf_counter()
    part()
    return 1000 * (time.perf_counter() - begun)


@contextmanager
def _kafka(there: Services) -> Iterator[Part]:
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    kafka = there.new_kafka()
    ensure_topics(kafka)
    name = kafka.topic(Topic.GENERATION)
    producer: Any = KafkaProducer(**kafka.client_options(), acks="all", enable_idempotence=True)
    consumer: Any = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    attend(consumer, kafka)
    assign_at_end(consumer, [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)])

    def one_way() -> None:
        producer.send(name, value=_VALUE)
        until = time.monotonic() + _SECONDS
        while not consumer.poll(timeout_ms=1_000):
            if time.monotonic() > until:
                raise Stalled(f"a record was not read back within {_SECONDS:g} s")

    try:
        yield one_way
    finally:
        consumer.close(autocommit=False)
        producer.close(timeout=5)


@contextmanager
def _commit(url: str, durable: bool) -> Iterator[Part]:
    engine = connect(url, durable=durable)
    statement = sqlalchemy.text("INSERT INTO floor (value) VALUES (:value)")
    with writing(engine) as tx:
        kind = "BYTEA" if engine.dialect.name == "postgresql" else "BLOB"
        tx.execute(sqlalchemy.text(f"CREATE TABLE IF NOT EXISTS floor (value {kind})"))

    def commit() -> None:
        with writing(engine) as tx:
            tx.execute(statement, {"value": _VALUE})

    try:
        yield commit
    finally:
        engine.dispose()


@contextmanager
def _hand_over(there: Services) -> Iterator[Part]:
    import redis
    from celery import Celery

    url = there.redis.rsplit("/", 1)[0] + "/2"
    options = ["--concurrency", "1", "--pool", "solo", "--loglevel", "WARNING"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    argv = [sys.executable, "-m", "celery", "-A", "bench.peers.handover_peer", "worker", *options, *quiet]
    child = start(
        ChildSpec(name="handover-worker", argv=argv, env={**os.environ, "BENCH_REDIS": url}), there.folder / "log"
    )
    app, client, numbers = (
        Celery("bench", broker=url, set_as_current=False),
        redis.Redis.from_url(url),
        itertools.count(),
    )

    def hand_over() -> None:
        app.send_task(peer.TASK, args=(next(numbers),), queue=peer.QUEUE, ignore_result=True)
        if client.blpop([peer.ANSWERS], timeout=_SECONDS) is None:
            raise Stalled(f"the worker of the floor has not answered within {_SECONDS:g} s; see {child.log}")

    try:
        hand_over()  # it is up when it answers
        yield hand_over
    finally:
        client.close()
        stop(child)
