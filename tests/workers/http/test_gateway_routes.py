import base64
import hashlib
import os
import re
import signal
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import psycopg
import pytest
from sqlalchemy import make_url, text
from tests.services.eventually import eventually
from tests.services.proxy import Proxy
from tests.workers.changed_settings import changed
from tests.workers.http.served import PATIENT, Gateway, served

from headrace_workers.core.sql.database import writing
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import Settings


def test_a_gateway_that_has_all_is_ready(gateway: Gateway):
    assert httpx.get(f"{gateway.url}/healthz", timeout=60).json() == {"status": "ok"}
    ready = {"ready": True, "stopping": False, "kafka": "ok", "ledger": "ok", "redis": "ok"}
    eventually(lambda: httpx.get(f"{gateway.url}/readyz", timeout=60).json() == ready)
    assert httpx.get(f"{gateway.url}/readyz", timeout=60).status_code == 200


def test_without_kafka_it_lives_and_is_not_ready(settings):
    away = changed(settings, kafka=replace(settings.kafka, bootstrap=("127.0.0.1:1",)))
    with served(away, connected=False, timeouts=Timeouts()) as gateway, gateway.client() as client:
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
    behind = changed(settings, kafka=replace(settings.kafka, bootstrap=(f"127.0.0.1:{proxy.port}",)))
    timeouts = replace(PATIENT, topics=Timeouts().topics)
    with served(behind, timeouts=timeouts) as gateway, gateway.client() as client:
        proxy.swallow()
        eventually(lambda: client.get("/readyz").status_code == 503)
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
        assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:kafka_away")
        proxy.heal()
        proxy.cut()
        eventually(lambda: client.get("/readyz").status_code == 200)
        eventually(lambda: client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).status_code == 202)
    proxy.close()


def test_a_ledger_that_takes_no_writes_is_told_of(settings: Settings):
    with served(settings) as gateway, gateway.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        asked(settings.ledger, "ALTER DATABASE {} SET default_transaction_read_only = on", all_out=True)
        eventually(lambda: "the ledger is read-only" in client.get("/readyz").json()["ledger"])
        assert client.get("/readyz").status_code == 503
        told = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}, headers={"Idempotency-Key": "k"})
        assert (told.status_code, told.json()["type"]) == (503, "urn:headrace:problem:ledger_away")
        assert "the ledger is read-only" in told.json()["detail"]
        asked(settings.ledger, "ALTER DATABASE {} SET default_transaction_read_only = off")
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_table_of_jobs_that_is_locked_is_told_of(settings: Settings):
    """No job comes in without these tables, whatever else the ledger answers."""
    with served(settings) as gateway, gateway.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        for table in ("accepted", "jobs"):
            with writing(gateway.services.ledger.engine) as tx:
                tx.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
                eventually(lambda: client.get("/readyz").status_code == 503)
            eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_connection_that_is_broken_is_not_judged_by(settings: Settings):
    with served(settings, timeouts=Timeouts()) as gateway, gateway.client() as client:
        ledger = gateway.services.ledger
        eventually(lambda: client.get("/readyz").status_code == 200)
        driver = ledger._single._opened()
        ledger._single._kept = [driver]
        os.kill(driver.info.backend_pid, signal.SIGSTOP)
        try:
            assert client.get("/readyz").json()["ledger"] == "ok"
        finally:
            os.kill(driver.info.backend_pid, signal.SIGCONT)


def test_a_job_that_the_ledger_had_no_room_for_counts(settings: Settings):
    job = {"model": "echo", "prompt": "x"}
    with served(settings) as gateway, gateway.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        with writing(gateway.services.ledger.engine) as tx:
            tx.execute(text(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
            ))  # fmt: skip
            tx.execute(text(
                "CREATE TRIGGER full_disk BEFORE INSERT ON accepted FOR EACH ROW EXECUTE FUNCTION full_disk()"
            ))  # fmt: skip
        told = client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "k"})
        assert (told.status_code, told.json()["detail"]) == (503, "the ledger's disk is full: make room on it")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ledger"]) == (503, told.json()["detail"])
        with writing(gateway.services.ledger.engine) as tx:
            tx.execute(text("DROP FUNCTION full_disk CASCADE"))  # the next test has this database


def asked(ledger: str, statement: str, *, all_out: bool = False) -> None:
    """Run a statement that names the ledger's database; with `all_out` nobody is connected to that afterwards."""
    url = make_url(ledger)
    server = url.set(database="postgres", drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.format(f'"{url.database}"'))
        if all_out:
            gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(gone, [url.database])


@pytest.fixture(scope="module")
def page(gateway: Gateway) -> httpx.Response:
    """The page as a browser without a key gets it, with a parameter that some other page added."""
    return httpx.get(f"{gateway.url}/?from=elsewhere", timeout=60)


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "srcset")]


def test_a_browser_without_a_key_gets_a_page(page: httpx.Response):
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "LLM answers, asynchronously" in page.text
    assert 'name="viewport"' in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_its_links_lead_to_what_there_is(gateway: Gateway, page: httpx.Response):
    links = Seen(page.text).addresses
    assert set(links) == {"/console/", "/openapi.json", "/healthz", "/readyz"}
    for link in links:
        told = httpx.get(f"{gateway.url}{link}", timeout=60, follow_redirects=True)
        kind = "text/html; charset=utf-8" if link == "/console/" else "application/json"
        assert (told.status_code, told.headers["content-type"]) == (200, kind)


def test_it_loads_nothing_and_its_policy_permits_only_its_own_style(page: httpx.Response):
    assert not Seen(page.text).tags & {"script", "link", "iframe", "img", "object", "form"}
    assert not re.search(r"@import|url\(", page.text)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert page.headers["content-security-policy"].split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'",
    ]  # fmt: skip
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


def test_it_tells_nothing_of_tenants(gateway: Gateway, page: httpx.Response):
    key = gateway.key("shop")
    told = httpx.get(f"{gateway.url}/", headers={"authorization": f"Bearer {key}", "host": "evil.example"}, timeout=60)
    assert told.content == page.content
    assert b"shop" not in told.content
