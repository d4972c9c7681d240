"""The console while services are slow, read-only or away, when its gateway is killed, and under many open pages: it
says so, comes back, and nothing else waits for it.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import httpx
import psycopg
import pytest
from sqlalchemy import func, make_url, select
from tests.services.eventually import eventually
from tests.services.need import need
from tests.services.postgres import PostgresServer, find_postgres
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer, find_redis
from tests.services.tables import postgres_tables
from tests.workers.changed_settings import changed
from tests.workers.http.served import PATIENT, Gateway, answer, served
from tests.workers.http.test_console import ask, browser
from tests.workers.http.test_gateway_routes import asked
from tests.workers.http.test_processes import process
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.tables import JOBS
from headrace_workers.features.console.connections import CONNECTIONS
from headrace_workers.features.console.job_lists import ENDED_JOBS
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import GatewaySettings, Settings

pytestmark = pytest.mark.slow

PAGES = ("playground/", "jobs/", "now/", "review/")
SHORT = replace(PATIENT, ledger=Timeouts().ledger)  # the product's own, for a ledger that does not answer


@pytest.fixture
def own_postgres(service_folder: Path, tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may stop."""
    folder = service_folder / tmp_path.name
    folder.mkdir()
    server = need(find_postgres(folder), "PostgreSQL is needed")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = need(find_redis(tmp_path / "redis"), "Redis is needed")
    server.start()
    yield server
    server.stop()


def statuses(client: httpx.Client) -> set[int]:
    return {client.get(page).status_code for page in PAGES}


def test_pages_whose_statements_are_slow_are_refused_and_hold_up_nothing(alone: Gateway, bridge: Callable[[], object]):
    slow = "jobs/?state=ended&tenant=default"
    alone.services.ledger.account()  # now there are older jobs
    with bridge(), browser(alone) as client, alone.client() as api:
        with (
            ThreadPoolExecutor(2 * CONNECTIONS) as viewers,
            psycopg.connect(alone.settings.ledger.replace("+psycopg", "")) as connection,
        ):
            connection.execute(f"LOCK TABLE {ENDED_JOBS} IN ACCESS EXCLUSIVE MODE")
            looks = [viewers.submit(client.get, slow) for _ in range(2 * CONNECTIONS)]
            job_id = api.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).json()["id"]
            eventually(lambda: api.get(f"/v1/jobs/{job_id}").json()["state"] == "active")
            answer(alone.services.ledger, job_id)
            assert api.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()["state"] == "done"
            for look in looks:
                page = look.result()
                assert (page.status_code, "Not ready" in page.text) == (503, True)
            # The database ended the statements: without that, these reads would still have all connections.
            assert client.get(f"jobs/{job_id}/").status_code == 200
        assert client.get(slow).status_code == 200


def test_a_ledger_that_is_read_only_shows_pages_and_refuses_forms(settings: Settings):
    with served(settings) as gateway, browser(gateway) as client:
        key = gateway.key()
        (job_id,) = take_in(gateway.services.ledger, [generation()])
        asked(settings.ledger, "ALTER DATABASE {} SET default_transaction_read_only = on", all_out=True)
        eventually(lambda: "ledger: the ledger is read-only" in client.get("now/").text)
        assert {client.get(page).status_code for page in ("playground/", "jobs/", f"jobs/{job_id}/")} == {200}
        forms = {"playground/": {"model": "echo", "question": "x"}, f"jobs/{job_id}/cancel": {}}
        for path, fields in forms.items():
            told = client.post(path, data=fields)
            assert (told.status_code, "the ledger is read-only" in told.text) == (503, True), path
        told = client.post("sign-in", data={"name": "Ada", "key": key})
        assert (told.status_code, "the ledger is read-only" in told.text) == (503, True)
        asked(settings.ledger, "ALTER DATABASE {} SET default_transaction_read_only = off", all_out=True)
        eventually(lambda: "ledger:" not in client.get("now/").text)
        eventually(lambda: client.post(f"jobs/{job_id}/cancel").status_code == 303)


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_ledger_that_is_away_is_told_by_every_page_and_they_come_back(
    settings: Settings, own_postgres: PostgresServer, how: str
):
    ledger = postgres_tables(own_postgres, "away")
    proxy = Proxy(own_postgres.port)
    behind = make_url(ledger).set(port=proxy.port).update_query_dict({"connect_timeout": "5"})
    address = behind.render_as_string(hide_password=False)
    with served(changed(settings, ledger=address), timeouts=SHORT) as gateway:
        eventually(lambda: httpx.get(f"{gateway.url}/readyz", timeout=60).status_code == 200)
        with browser(gateway) as client:
            (job_id,) = take_in(gateway.services.ledger, [generation()])
            part = f"jobs/{job_id}/part"
            assert statuses(client) == {200}
            if how == "stopped":
                own_postgres.stop()
            else:
                proxy.swallow()
            for path in (*PAGES, part, "now/part"):
                told = client.get(path)
                assert (told.status_code, "Not ready" in told.text) == (503, True), path
                assert ("<html" in told.text) is not path.endswith("part")
            assert 'hx-trigger="every 1s"' in client.get(part).text  # it asks again
            if how == "stopped":
                own_postgres.start()
            else:
                proxy.heal()
                proxy.cut()
            eventually(lambda: statuses(client) == {200})
            assert client.get(part).status_code == 200
    proxy.close()


def test_a_redis_that_is_away_is_told_live_and_answers_are_shown_all_the_same(
    settings: Settings, own_redis: RedisServer, bridge: Callable[[], object]
):
    with served(changed(settings, redis=own_redis.url)) as gateway, bridge(), browser(gateway) as client:
        eventually(lambda: "Redis:" not in client.get("now/part").text)
        own_redis.stop()
        eventually(lambda: "Redis: it does not answer" in client.get("now/part").text)
        job = ask(client)
        job_id = job.rstrip("/").rpartition("/")[2]
        eventually(lambda: gateway.services.ledger.standings([job_id])[job_id].row)
        assert 'hx-trigger="every 1s"' in client.get(f"{job}part").text
        answer(gateway.services.ledger, job_id)
        assert "An answer." in client.get(f"{job}part").text
        own_redis.start()
        eventually(lambda: "Redis:" not in client.get("now/part").text)


def test_a_session_and_a_form_outlive_the_gateway_that_is_killed(
    settings: Settings, tmp_path: Path, bridge: Callable[[], object]
):
    public = "http://llm.example.com"
    behind = changed(settings, GatewaySettings(public_url=public))
    fields = {"model": "echo", "question": "What flows?", "nonce": "1"}
    with served(behind) as other, process(behind, tmp_path) as (child, url), bridge():
        headers = {"origin": public}
        with httpx.Client(headers=headers, timeout=120) as client:
            signed_in = client.post(f"{url}/console/sign-in", data={"name": "Ada", "key": other.key()})
            (cookie,) = signed_in.headers.get_list("set-cookie")
            session = {**headers, "cookie": cookie.partition(";")[0]}
            first = client.post(f"{url}/console/playground/", data=fields, headers=session)
            assert first.status_code == 303
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.wait(60)
            page = client.get(f"{other.url}/console/playground/", headers=session)
            assert (page.status_code, "<bdi>Ada</bdi>" in page.text) == (200, True)
            again = client.post(f"{other.url}/console/playground/", data=fields, headers=session)
            assert again.headers["location"] == first.headers["location"]
            job = urljoin(f"{other.url}/console/playground/", again.headers["location"])
            eventually(lambda: client.get(job, headers=session).status_code == 200)
    with other.services.ledger.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(JOBS)).scalar_one() == 1
