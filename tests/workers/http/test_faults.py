"""Services that are away or silent under a gateway, and clients that hang up."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Request
from sqlalchemy import make_url
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer, find_tansu
from tests.services.need import need
from tests.services.proxy import Proxy
from tests.workers.changed_settings import changed
from tests.workers.http.conftest import bridge_of
from tests.workers.http.served import PATIENT, Gateway, hang_up_while_waiting, served

from headrace_producers.admin import ensure_topics
from headrace_workers.core.redis import redis_client
from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.generation.api.answers import ends_of
from headrace_workers.files.object_store import StoreUnavailable
from headrace_workers.files.service import Files
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.services import Wired
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.testing import make_hash_embedder
from headrace_workers.wiring import build_bridge as main_bridge
from headrace_workers.wiring import build_gateway as main_gateway

JOB = {"model": "echo", "prompt": "x"}
SHORT = Timeouts()  # the product's own: for tests that wait until it is over
SHORT_WITH_KAFKA = replace(PATIENT, topics=SHORT.topics, silence=SHORT.silence, confirmed=SHORT.confirmed)


@pytest.fixture
def proxied(settings: Settings) -> "tuple[Settings, Proxy]":
    """The same deployment, its PostgreSQL behind a proxy. Connections are given up sooner than usual, and still later
    than a request is.
    """
    url = make_url(settings.ledger)
    proxy = Proxy(url.port)
    behind = url.set(port=proxy.port).update_query_dict({"timeout": str(SHORT.ledger + 1), "connect_timeout": "5"})
    return changed(settings, ledger=behind.render_as_string(hide_password=False)), proxy


def test_a_ledger_that_is_silent_is_told_of_in_a_bounded_time(proxied: "tuple[Settings, Proxy]"):
    """Kafka has the job by then: the answer says so, with its id, and that a second try would be a second job."""
    settings, proxy = proxied
    with served(settings, timeouts=replace(PATIENT, ledger=SHORT.ledger)) as gateway, gateway.client() as client:
        eventually(lambda: client.post("/v1/jobs", json=JOB).status_code == 202)
        proxy.swallow()
        told = client.post("/v1/jobs", json=JOB)
        assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:ledger_away")
        eventually(lambda: client.get("/readyz").status_code == 503)
        proxy.heal()
        # Connections that were cut in half are given up one by one.
        eventually(lambda: client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"}).status_code == 202)


RESOURCES = [
    ("GET", "/v1/files"), ("GET", "/v1/files/file-1/content"), ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/uploads"), ("GET", "/v1/batches"), ("POST", "/v1/batches"), ("GET", "/v1/batches/batch_1"),
    ("GET", "/v1/vector_stores"), ("POST", "/v1/vector_stores"), ("POST", "/v1/vector_stores/vs_1/search"),
    ("POST", "/v1/vector_stores/vs_1/files"), ("POST", "/v1/vector_stores/vs_1/file_batches"),
    ("GET", "/v1/evals"), ("POST", "/v1/evals"), ("GET", "/v1/evals/eval_1/runs"), ("POST", "/v1/evals/eval_1/runs"),
    ("GET", "/v1/evals/eval_1/runs/evalrun_1/output_items"),
    ("GET", "/v1/webhook_endpoints"), ("POST", "/v1/webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/we_1/deliveries"),
    ("GET", "/v1/responses/resp_7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"), ("POST", "/v1/responses"),
    ("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("POST", "/v1/moderations"),
    ("GET", "/v1/reviews/items"), ("GET", "/v1/reviews/mine"), ("GET", "/v1/reviews/stats"),
    ("POST", "/v1/reviews/next"), ("POST", "/v1/reviews/items"),
    ("POST", "/v1/reviews/items/7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00/decision"),
    ("GET", "/v1/held"), ("GET", "/v1/labels"), ("POST", "/v1/labels"),
    ("GET", "/v1/usage?from=2026-11-01&to=2026-11-02"),
]  # fmt: skip
BODIES = {
    "/v1/uploads": {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "batch"},
    "/v1/batches": {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"},
    "/v1/vector_stores": {},
    "/v1/evals": {
        "data_source_config": {"type": "custom", "item_schema": {}},
        "testing_criteria": [
            {
                "type": "string_check",
                "name": "x",
                "input": "{{item.x}}",
                "reference": "x",
                "operation": "eq",
            }
        ],
    },
    "/v1/evals/eval_1/runs": {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}},
    "/v1/reviews/next": {},
    "/v1/reviews/items": {"job_id": "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"},
    "/v1/reviews/items/7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00/decision": {"action": "release", "lease": 1},
    "/v1/labels": {
        "labels": [
            {
                "job_id": "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00",
                "criterion": "right",
                "label": True,
                "who": "ann",
                "when": "2026-01-31T12:00:00Z",
            }
        ]
    },
    "/v1/webhook_endpoints": {"event_types": ["batch.completed"], "name": "x", "url": "https://shop.example/"},
    "/v1/responses": {"model": "echo", "input": "x", "background": True},
    "/v1/chat/completions": {"model": "echo", "messages": [{"role": "user", "content": "x"}]},
    "/v1/embeddings": {"model": "all-minilm-l6-v2", "input": "x"},
    "/v1/moderations": {"input": "x"},
}


QUICK = [
    resource
    for resource in RESOURCES
    if resource[1] not in ("/v1/chat/completions", "/v1/embeddings", "/v1/moderations")
]


def asked(client: httpx.Client, route: tuple[str, str]) -> httpx.Response:
    method, path = route
    inside = {"query": "x"} if path.endswith("search") else {"file_ids": ["file-1"]}
    if path.endswith("vs_1/files"):
        inside = {"file_id": "file-1"}
    return client.request(method, path, json=BODIES.get(path, inside) if method == "POST" else None)


def test_every_resource_tells_of_a_silent_ledger(proxied: "tuple[Settings, Proxy]"):
    """In OpenAI's shape where the path is OpenAI's; none waits for ever, and none says "not found"."""
    settings, proxy = proxied
    make_hash_embedder(settings.home, settings.of(ModelSettings).embedder)
    with served(settings, timeouts=replace(PATIENT, ledger=SHORT.ledger)) as gateway:
        with gateway.client() as client:
            eventually(lambda: client.get("/v1/files").status_code == 200)
            proxy.swallow()
            with ThreadPoolExecutor(len(RESOURCES)) as threads:
                told = dict(zip(RESOURCES, threads.map(partial(asked, client), RESOURCES), strict=True))
        proxy.heal()
    wrong = {
        route: (response.status_code, response.text)
        for route, response in told.items()
        if "ledger_away" not in response.text
    }
    assert not wrong
    assert {response.status_code for response in told.values()} == {503}


def test_no_resource_needs_redis(settings: Settings):
    with closing(Proxy(make_url(settings.redis).port)) as proxy:
        redis = f"redis://127.0.0.1:{proxy.port}/0"
        timeouts = replace(PATIENT, redis=SHORT.redis)
        with served(changed(settings, redis=redis), timeouts=timeouts) as gateway, gateway.client() as client:
            proxy.swallow()
            with ThreadPoolExecutor(len(RESOURCES)) as threads:
                told = list(threads.map(partial(asked, client), QUICK))
            assert gateway.services.rates.is_unavailable
            assert {response.status_code for response in told} <= {200, 400, 404}, [response.text for response in told]


def test_a_silent_redis_holds_no_job_up(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Neither on its way in, which with a log in memory the bridge has to take it in for, nor as it is cancelled. What
    may take its time with Redis would wait here for longer than any door.
    """
    for room in (main_bridge, main_gateway):
        monkeypatch.setattr(room, "redis_client", lambda url, seconds=600.0: redis_client(url, seconds))
    with closing(Proxy(make_url(settings.redis).port)) as proxy:
        settings = changed(settings, redis=f"redis://127.0.0.1:{proxy.port}/0")
        with (
            served(settings, durable=False, timeouts=replace(PATIENT, redis=SHORT.redis)) as gateway,
            bridge_of(settings),
            gateway.client() as client,
        ):
            first = client.post("/v1/jobs", json=JOB)
            assert first.status_code == 202, first.text
            proxy.swallow()
            told = [client.post("/v1/jobs", json={**JOB, "lane": "interactive"}) for _ in range(3)]
            assert [response.status_code for response in told] == [202] * 3, [response.text for response in told]
            gone = client.delete(f"/v1/jobs/{first.json()['id']}")
            assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
            proxy.heal()


def test_a_file_store_that_is_silent_holds_nobody_else(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    silence = threading.Event()
    monkeypatch.setattr("headrace_workers.features.files.api.STORE_SECONDS", 0.5)
    monkeypatch.setattr(alone.services.of(Files), "add", lambda *_, **__: silence.wait(60))

    def send(number: int) -> httpx.Response:
        return client.post("/v1/files", files={"file": (f"{number}.txt", b"x")}, data={"purpose": "user_data"})

    try:
        with alone.client() as client, ThreadPoolExecutor(20) as threads:
            sent = [threads.submit(send, number) for number in range(20)]
            told = [future.result() for future in sent]
            why = {(503, "store_away"), (429, "rate_limit_exceeded")}  # a tenant does a few things at a time
            assert {(response.status_code, response.json()["error"]["code"]) for response in told} == why
            assert client.get("/v1/files").status_code == 200
            assert client.post("/v1/jobs", json=JOB).status_code == 202
    finally:
        silence.set()


def test_what_a_service_says_of_itself_is_in_the_log_alone(
    proxied: "tuple[Settings, Proxy]", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(logging.getLogger("headrace"), "propagate", True)
    settings, proxy = proxied

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("the file store failed at /srv/mill: No space left on device")

    with served(settings) as gateway, gateway.client() as client:
        monkeypatch.setattr(gateway.services.of(Files), "add", full)
        told = client.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "user_data"})
        assert (told.status_code, told.json()["error"]["code"]) == (503, "store_away")
        assert told.json()["error"]["message"].startswith("the file store does not work for now: try again")
        assert "mill" not in told.text
        proxy.close()
        told = client.get("/v1/files")
        assert (told.status_code, told.json()["error"]["code"]) == (503, "ledger_away")
        assert told.json()["error"]["message"].startswith("the ledger does not work for now: try again")
        assert str(proxy.port) not in told.text
        assert "127.0.0.1" not in told.text
    assert "/srv/mill" in caplog.text
    assert "the ledger did not answer" in caplog.text


def test_a_kafka_that_is_silent_is_told_of_in_a_bounded_time(settings: Settings, embedded_kafka: KafkaServer):
    timeouts = replace(SHORT_WITH_KAFKA, confirmed=3_600.0)  # the first waits until it is told otherwise
    with served(settings, timeouts=timeouts) as alone, alone.client(timeout=600) as client:
        eventually(lambda: client.post("/v1/jobs", json=JOB).status_code == 202)
        embedded_kafka.freeze()
        try:
            first: list[httpx.Response] = []
            thread = threading.Thread(target=lambda: first.append(client.post("/v1/jobs", json=JOB)))
            thread.start()
            eventually(lambda: alone.services.sink.trouble is not None)
            at_once = client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"}, timeout=60)
            assert at_once.json()["type"] == "urn:headrace:problem:kafka_away"
            assert "x-should-retry" not in at_once.headers
            assert thread.is_alive()
            alone.services.sink._timeouts = replace(timeouts, confirmed=0.0)  # its time is up
            thread.join(120)
            assert (first[0].status_code, first[0].headers["x-should-retry"]) == (503, "false")
            # Nobody was told that it is accepted, and so it is not: it is found when it is taken in after all.
            assert client.get(f"/v1/jobs/{first[0].json()['job_id']}").status_code == 404
        finally:
            embedded_kafka.thaw()
        alone.services.sink._timeouts = SHORT_WITH_KAFKA
        other = {**JOB, "prompt": "y"}  # nothing was sent under the key
        eventually(lambda: client.post("/v1/jobs", json=other, headers={"Idempotency-Key": "k"}).status_code == 202)


def test_a_kafka_that_died_is_told_of_and_used_again(settings: Settings, tmp_path: Path):
    (tmp_path / "own").mkdir()
    with closing_server(need(find_tansu(tmp_path / "own"), "Tansu is needed")) as kafka:
        own = changed(settings, kafka=kafka.settings(settings.kafka.prefix))
        ensure_topics(own.kafka)
        with served(own, timeouts=SHORT_WITH_KAFKA) as gateway, gateway.client() as client:
            eventually(lambda: client.post("/v1/jobs", json=JOB).status_code == 202)
            kafka.kill()
            told = client.post("/v1/jobs", json=JOB)
            assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_away")
            kafka.restart()
            ensure_topics(own.kafka)
            eventually(lambda: client.post("/v1/jobs", json=JOB).status_code == 202)


@contextmanager
def closing_server(server: KafkaServer) -> Iterator[KafkaServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def waiting(gateway: Gateway, *, keep: bool) -> str:
    """Add a route that waits as the doors for answers do, and return its path."""

    async def wait(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> dict[str, str]:
        ids = (await request.json())["ids"]
        ends = await ends_of(request, services, caller, ids, seconds=60, keep=keep)
        return {job_id: type(end).__name__ for job_id, end in ends.items()}

    gateway.server.config.app.add_api_route("/v1/waiting", wait, methods=["POST"])
    return "/v1/waiting"


def test_who_hangs_up_cancels_what_nobody_else_can_see(alone: Gateway, bridge):
    path = waiting(alone, keep=False)
    with alone.client() as client:
        half = [entry["id"] for entry in client.post("/v1/jobs", json=[JOB] * 200).json()["data"]]
        with bridge():
            eventually(lambda: alone.services.ledger.active_jobs() == 200)
        ids = half + [entry["id"] for entry in client.post("/v1/jobs", json=[JOB] * 200).json()["data"]]
        hang_up_while_waiting(alone, path, [{"ids": [job_id]} for job_id in ids])
        eventually(lambda: alone.services.ledger.overview().cancelled == 400)
        assert client.get("/healthz").status_code == 200


def test_a_slow_ledger_is_waited_for_when_nobody_waits(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Longer than a client would: else the jobs of clients that are gone, which come behind others, would run on."""
    timeouts, calls = replace(PATIENT, ledger=1.0), []

    with served(settings, timeouts=timeouts) as gateway, gateway.client() as client:
        ledger, cancel_all = gateway.services.ledger, gateway.services.ledger.cancel_all

        def slow(wishes):
            calls.append(len(wishes))
            if len(calls) == 1:
                time.sleep(timeouts.ledger + 0.5)
            return cancel_all(wishes)

        sent = eventually(lambda: (told := client.post("/v1/jobs", json=[JOB] * 101)).status_code == 202 and told)
        monkeypatch.setattr(ledger, "cancel_all", slow)
        ids = [entry["id"] for entry in sent.json()["data"]]
        hang_up_while_waiting(gateway, waiting(gateway, keep=False), [{"ids": [job_id]} for job_id in ids])
        eventually(lambda: ledger.overview().cancelled == 101)
    assert len(calls) > 1


def test_what_can_be_asked_for_again_goes_on(alone: Gateway):
    path = waiting(alone, keep=True)
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"}).json()["id"]
        hang_up_while_waiting(alone, path, [{"ids": [job_id]}])
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "accepted"


def test_who_waits_is_told_how_things_stand_when_the_gateway_stops(alone: Gateway):
    told: list[httpx.Response] = []
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        poll = threading.Thread(target=lambda: told.append(client.get(f"/v1/jobs/{job_id}", params={"wait": 60})))
        poll.start()
        eventually(lambda: alone.services.waiter.waiting == 1)
        alone.server.should_exit = True
        poll.join(60)
    assert (told[0].status_code, told[0].json()["state"]) == (200, "accepted")
