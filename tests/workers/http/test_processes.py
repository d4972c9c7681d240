import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer
from tests.services.warm import PROGRAM, start
from tests.workers.http.served import Gateway, served

from headrace_schemas.job import derive_job_id
from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, stop
from headrace_workers.runtime.embedded.free_ports import free_ports
from headrace_workers.runtime.settings import GatewaySettings, Settings

JOB = {"model": "echo", "prompt": "x"}


@contextmanager
def process(settings: Settings, folder: Path, *options: str) -> Iterator[tuple[Child, str]]:
    """A `headrace gateway` that answers: the process, and its URL."""
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    child = start(
        ChildSpec(
            name="gateway",
            argv=[*PROGRAM, "gateway", "--port", str(port), *options],
            env={
                "HEADRACE_HOME": str(settings.home), "HEADRACE_KAFKA": settings.kafka.address,
                "HEADRACE_TOPIC_PREFIX": settings.kafka.prefix, "HEADRACE_REDIS": settings.redis,
                "HEADRACE_LEDGER": settings.ledger, "HEADRACE_PUBLIC_URL": settings.of(GatewaySettings).public_url,
            },
            ready=ready,
            ready_seconds=300.0,  # a busy machine is slow, which says nothing about the gateway
        ),
        folder / "log",
    )  # fmt: skip
    try:
        yield child, url
    finally:
        child.process.send_signal(signal.SIGCONT)
        stop(child)


@pytest.fixture
def second(settings: Settings) -> Iterator[Gateway]:
    with served(settings) as gateway:
        yield gateway


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_a_gateway_that_is_killed_before_kafka_has_a_job_promised_nothing(
    settings: Settings, second: Gateway, embedded_kafka: KafkaServer, tmp_path: Path, bridge
):
    headers = {"authorization": f"Bearer {second.key()}", "Idempotency-Key": "order-17"}
    job_id = derive_job_id("default", "order-17")
    told: list[int] = []

    def send() -> None:
        with suppress(httpx.TransportError):
            while True:
                told.append(httpx.post(f"{url}/v1/jobs", json=JOB, headers=headers, timeout=120).status_code)

    with process(settings, tmp_path) as (child, url):
        embedded_kafka.freeze()
        try:
            thread = threading.Thread(target=send)
            thread.start()
            reserved = "SELECT count(*) FROM accepted"
            with second.services.ledger.engine.connect() as connection:
                eventually(lambda: connection.exec_driver_sql(reserved).scalar() == 1)
            os.kill(child.process.pid, signal.SIGKILL)
            thread.join(120)
        finally:
            embedded_kafka.thaw()
    assert not thread.is_alive()
    assert set(told) <= {503}
    with second.client() as client:
        assert client.get(f"/v1/jobs/{job_id}").status_code == 404
        assert client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "order-17"}).json()["id"] == job_id
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "accepted"
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "active")
    assert second.services.ledger.active_jobs() == 1
    assert second.services.ledger.overview().dead_letters == 0


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_a_gateway_stops_when_it_is_told_to(settings: Settings, second: Gateway, tmp_path: Path):
    key = second.key()
    with process(settings, tmp_path) as (child, url):

        def send() -> httpx.Response | None:
            """The job, once this gateway, which has little patience, finds Kafka."""
            headers, body = {"authorization": f"Bearer {key}"}, {**JOB, "prompt": "the secret"}
            told = httpx.post(f"{url}/v1/jobs", json=body, headers=headers, timeout=120)
            return told if told.status_code == 202 else None

        sent = eventually(send)
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(60) == 0
    with second.client(key) as client:
        assert client.get(f"/v1/jobs/{sent.json()['id']}").json()["state"] == "accepted"
    log = (tmp_path / "log" / "gateway.log").read_text()
    assert "POST /v1/jobs 202" in log
    assert "the gateway stopped" in log
    assert key not in log
    assert "secret" not in log
