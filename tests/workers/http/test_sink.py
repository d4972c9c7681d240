"""Records to Kafka from the event loop: what goes together, and what keeps nobody back."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from tests.producers.deliveries import create_topic
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer
from tests.services.tables import sqlite_tables
from tests.workers.http.served import PATIENT, served

from headrace_producers.admin import ensure_topics
from headrace_producers.errors import BufferFull, RecordRefused
from headrace_producers.settings import KafkaSettings
from headrace_producers.sink import Record
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.http import sink as room
from headrace_workers.http import sink as sink_module
from headrace_workers.http.errors import KafkaOutage
from headrace_workers.http.sink import Sink, Topics
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import Settings
from headrace_workers.testing import make_echo_model


class Broker:
    """A client that takes records, and confirms them when a test says so."""

    def __init__(self):
        self.told, self.taken = None, []
        self.missing = {}
        self.at_look = lambda: None
        self.silent = None  # what is raised by whatever is asked, while it is

    def look(self):
        self.at_look()
        if self.silent:
            raise self.silent
        return self.missing

    def connect(self, told):
        self.told = told
        return self

    def send(self, record):
        self.taken.append(record.job_id)
        if self.silent:
            raise self.silent

    def close(self, timeout):
        """Nothing is left to do."""

    def confirm(self, *job_ids, error=None):
        for job_id in job_ids:
            self.told(job_id, error)


def record(job_id):
    return Record(Topic.GENERATION, job_id.encode(), [], b"{}", job_id)


def sending(work: Callable[[Sink, Broker], Awaitable[object]], timeouts: Timeouts = PATIENT) -> object:
    """Run `work(sink, broker)` with a sink that is connected."""

    async def run():
        broker, executor = Broker(), ThreadPoolExecutor()
        sink = Sink(broker.connect, Topics(broker.look, executor, timeouts.topics), executor, timeouts)
        await sink.start()
        while sink.trouble is not None:
            await asyncio.sleep(0.001)
        try:
            return await work(sink, broker)
        finally:
            await sink.stop()

    return asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_what_comes_meanwhile_goes_together(monkeypatch):
    monkeypatch.setattr(room, "GATHER_SECONDS", 60.0)

    async def work(sink, broker):
        first = asyncio.create_task(sink.publish([record("a")]))
        await until(lambda: broker.taken == ["a"])
        later = [asyncio.create_task(sink.publish([record(name)])) for name in "bcd"]
        await asyncio.sleep(0.02)
        before = list(broker.taken)
        broker.confirm("a")
        await first
        await until(lambda: len(broker.taken) == 4)
        broker.confirm("d", "c", "b")
        await asyncio.gather(*later)
        return before, broker.taken

    assert sending(work) == (["a"], ["a", "b", "c", "d"])


def test_one_that_is_slow_keeps_nobody_back():
    async def work(sink, broker):
        slow = asyncio.create_task(sink.publish([record("slow")]))
        await until(lambda: broker.taken == ["slow"])
        other = asyncio.create_task(sink.publish([record("other")]))
        await until(lambda: "other" in broker.taken)
        broker.confirm("other")
        await other
        assert not slow.done()
        broker.confirm("slow")
        await slow

    sending(work)


def test_what_is_not_confirmed_is_told_and_may_still_arrive():
    async def work(sink, _broker):
        with pytest.raises(KafkaOutage, match="not confirmed within") as told:
            await sink.publish([record("a")])
        return told.value.should_retry

    assert sending(work, Timeouts(confirmed=0.0)) is False


def test_a_topic_that_went_missing_is_told_before_its_time_is_up(monkeypatch):
    monkeypatch.setattr(room, "DOUBT_SECONDS", 0.0)

    async def work(sink, broker):
        broker.missing = {Topic.GENERATION: "jobs.generation"}
        with pytest.raises(KafkaOutage, match=r"jobs.generation is not there: run `headrace init`") as told:
            await sink.publish([record("a")])
        with pytest.raises(KafkaOutage) as later:
            await sink.publish([record("b")])
        return told.value.should_retry, later.value.should_retry, broker.taken

    assert sending(work) == (False, None, ["a"])


def test_what_fails_is_its_request_s_alone():
    async def work(sink, broker):
        requests = [[record("a")], [record("b")], [record("c"), record("d")]]
        tasks = [asyncio.create_task(sink.publish(request)) for request in requests]
        await until(lambda: len(broker.taken) == 4)
        broker.confirm("a", "d")
        broker.confirm("b", error=Unavailable("it is away"))
        broker.confirm("c", error=RecordRefused("it is no good"))
        return [type(item) for item in await asyncio.gather(*tasks, return_exceptions=True)]

    assert sending(work) == [type(None), KafkaOutage, KafkaOutage]


def test_one_who_gives_up_leaves_the_others_as_they_are():
    async def work(sink, broker):
        one, two = (asyncio.create_task(sink.publish([record(name)])) for name in "ab")
        await until(lambda: len(broker.taken) == 2)
        one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await one
        broker.confirm("a", "b")
        await two

    sending(work)


def test_a_kafka_that_is_silent_is_asked_by_nobody_else():
    async def work(sink, broker):
        broker.silent = Unavailable("no Kafka broker answers at kafka-7.internal:9092")
        with pytest.raises(KafkaOutage):
            await sink.publish([record("a")])
        with pytest.raises(KafkaOutage) as told:
            await sink.publish([record("b")])
        assert broker.taken == ["a"]
        assert "no Kafka broker answers" in sink.trouble
        assert "kafka-7" not in sink.trouble + str(told.value)
        broker.silent = None
        await until(lambda: sink.trouble is None)
        later = asyncio.create_task(sink.publish([record("c")]))
        await until(lambda: "c" in broker.taken)
        broker.confirm("c")
        await later

    sending(work)


def test_a_buffer_that_is_full_is_no_silent_kafka():
    async def work(sink, broker):
        broker.silent = BufferFull("full")
        with pytest.raises(KafkaOutage):
            await sink.publish([record("a")])
        return sink.trouble

    assert sending(work) is None


def test_a_look_that_fails_while_records_are_confirmed_says_nothing():
    async def work(sink, broker):
        looks, go_on = threading.Event(), threading.Event()

        def late():
            looks.set()
            go_on.wait(60)
            raise Unavailable("not in time")

        broker.at_look = late
        sending = asyncio.create_task(sink.publish([record("a")]))
        await until(lambda: broker.taken == ["a"])
        looking = asyncio.create_task(sink._topics.look())
        await until(looks.is_set)
        broker.confirm("a")
        await sending
        go_on.set()
        await looking
        return sink.trouble

    assert sending(work) is None


JOB = {"model": "echo", "prompt": "x"}
OTHER = {"kind": "moderation", "input": "x"}


@pytest.fixture
def over(tmp_path, redis_server: RedisServer):
    """Settings of a gateway over this Kafka, with a ledger of its own."""
    make_echo_model(tmp_path)
    ledger = sqlite_tables(tmp_path / "ledger.db")
    return lambda kafka: Settings(home=tmp_path, kafka=kafka, redis=redis_server.url, ledger=ledger)


def remove(kafka: KafkaSettings, topic: Topic) -> None:
    admin = KafkaAdminClient(**kafka.client_options())
    admin.delete_topics([kafka.topic(topic)])
    eventually(lambda: kafka.topic(topic) not in admin.list_topics())
    admin.close()


def is_taken(client: httpx.Client, job: dict[str, str]) -> None:
    """Send this job until it is accepted. A busy machine may need longer for it than a gateway waits."""
    eventually(lambda: client.post("/v1/jobs", json=job).status_code == 202)


def refused(told: httpx.Response) -> str:
    assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_refuses"), told.text
    return str(told.json()["detail"])


def test_a_topic_that_is_deleted_under_a_gateway_is_named(over, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch):
    remedy = "run `headrace init`"
    if kafka.groups:  # nobody looks before the first job is on its way
        monkeypatch.setattr(sink_module, "EVERY_SECONDS", 3_600.0)
    with served(over(kafka)) as gateway, gateway.client() as client:
        is_taken(client, JOB)
        remove(kafka, Topic.GENERATION)
        if kafka.groups:
            told = client.post("/v1/jobs", json=JOB)
            assert f"the topic {kafka.topic(Topic.GENERATION)} is not there: {remedy}" in refused(told)
            assert "x-should-retry" in told.headers  # it was on its way: a second try might be a second job
            monkeypatch.undo()
            sink = gateway.services.sink
            sink._loop.call_soon_threadsafe(sink._topics.doubt)  # from now on somebody does
        eventually(lambda: remedy in client.get("/readyz").json()["kafka"])
        assert remedy in refused(client.post("/v1/jobs", json=JOB))
        ready = client.get("/readyz")
        assert (ready.status_code, remedy in ready.json()["kafka"]) == (503, True)
        assert "x-should-retry" not in client.post("/v1/jobs", json=JOB).headers  # it is known by now
        is_taken(client, OTHER)
        ensure_topics(kafka, partitions=1)
        is_taken(client, JOB)
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_gateway_that_never_saw_its_topics_names_them(over, embedded_kafka: KafkaServer, fresh_prefix: str):
    with served(over(embedded_kafka.settings(fresh_prefix))) as gateway, gateway.client() as client:
        gateway.services.sink._topics._missing = {}
        assert "headrace init" in refused(client.post("/v1/jobs", json=JOB))


def test_a_job_that_its_topic_does_not_take_is_too_large(over, apache_kafka: KafkaServer, fresh_prefix: str):
    kafka = apache_kafka.settings(fresh_prefix)
    create_topic(kafka, Topic.GENERATION, {"max.message.bytes": "20000"})
    ensure_topics(kafka, partitions=1)
    with served(over(kafka)) as gateway, gateway.client() as client:
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x" * 50_000})
        assert (told.status_code, told.json()["type"]) == (413, "urn:headrace:problem:too_large")
        assert f"{kafka.topic(Topic.GENERATION)} takes" in told.json()["detail"]
        assert "may still be run" not in told.json()["detail"]
        is_taken(client, JOB)


def test_a_topic_that_is_forbidden_is_named(over, apache_kafka: KafkaServer, fresh_prefix: str):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    admin = KafkaAdminClient(**kafka.client_options())
    pattern = ResourcePattern(ResourceType.TOPIC, kafka.topic(Topic.GENERATION))
    admin.create_acls(
        [
            ACL("User:ANONYMOUS", "*", ACLOperation.WRITE, ACLPermissionType.DENY, pattern),
            ACL("User:ANONYMOUS", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, pattern),
        ]
    )
    with served(over(kafka)) as gateway, gateway.client() as client:
        eventually(lambda: client.post("/v1/jobs", json=JOB).status_code == 503)
        told = client.post("/v1/jobs", json=JOB)
        assert f"forbids to write to the topic {kafka.topic(Topic.GENERATION)}" in refused(told)
        assert "x-should-retry" not in told.headers  # Kafka does not have it
        is_taken(client, OTHER)
        admin.delete_acls([ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, pattern)])
        is_taken(client, JOB)
    admin.close()
