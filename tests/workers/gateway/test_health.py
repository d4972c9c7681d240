"""Whether a gateway lives, and whether it is ready."""

import threading
from dataclasses import replace

import httpx
from tests.services.eventually import eventually
from tests.services.proxy import Proxy
from tests.workers.gateway.served import Gateway, served

from headrace_workers.settings import Settings
from headrace_workers.testing import make_hash_embedder


def test_a_gateway_that_has_all_is_ready(gateway: Gateway):
    """Nobody needs a key to know."""
    assert httpx.get(f"{gateway.url}/healthz", timeout=60).json() == {"status": "ok"}
    ready = {"ready": True, "stopping": False, "kafka": "ok", "ledger": "ok", "redis": "ok"}
    eventually(lambda: httpx.get(f"{gateway.url}/readyz", timeout=60).json() == ready)
    assert httpx.get(f"{gateway.url}/readyz", timeout=60).status_code == 200


def test_without_kafka_it_lives_and_is_not_ready(settings):
    """And says so; jobs are refused at once, and nothing was sent."""
    away = replace(settings, kafka=replace(settings.kafka, bootstrap=("127.0.0.1:1",)))
    with served(away, connected=False) as gateway, gateway.client() as client:
        assert client.get("/healthz").status_code == 200
        eventually(lambda: "no Kafka broker answers" in client.get("/readyz").json()["kafka"])
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "127.0.0.1" not in ready.text  # anybody may ask
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
        assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_away")
        assert "127.0.0.1" not in told.text  # that is in the log
        assert told.headers["retry-after"] == "1"
        assert "x-should-retry" not in told.headers  # the client's own rule is right: nothing was sent


def test_a_kafka_that_falls_silent_is_told_before_anybody_sends(settings: Settings):
    """It takes connections, and says nothing: no job was sent that could have found out."""
    (broker,) = settings.kafka.bootstrap
    proxy = Proxy(int(broker.rpartition(":")[2]))
    behind = replace(settings, kafka=replace(settings.kafka, bootstrap=(f"127.0.0.1:{proxy.port}",)))
    with served(behind) as gateway, gateway.client() as client:
        proxy.swallow()
        eventually(lambda: client.get("/readyz").status_code == 503)
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
        assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_away")
        proxy.heal()
        proxy.cut()
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).status_code == 202
    proxy.close()


def test_what_a_search_began_ends_with_the_gateway(settings: Settings):
    """Whoever follows documents does so no longer; a gateway that nobody searched has no such thread."""

    def following() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "follow documents"}

    make_hash_embedder(settings.home)
    before = following()
    with served(replace(settings, embedder="hash")) as gateway:
        assert following() <= before  # some of other tests may have ended
        gateway.services.bases()
        (mine,) = following() - before
    eventually(lambda: not mine.is_alive())
