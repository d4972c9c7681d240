import httpx
import pytest
from tests.workers.changed_settings import changed
from tests.workers.http.served import Gateway, described, served, told_unread

from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, METRICS
from headrace_workers.features.access import keyring
from headrace_workers.features.access.store.keys import ApiKeys, new_token
from headrace_workers.features.files.feature import FILES_WRITE
from headrace_workers.runtime.settings import GatewaySettings, Settings

JOB = {"model": "echo", "prompt": "x"}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer of a new key"])
def test_nobody_comes_in_without_a_key(gateway: Gateway, header: str | None):
    if header == "Bearer of a new key":
        header = f"Bearer {new_token().text}"
    headers = {} if header is None else {"authorization": header}
    told = httpx.post(f"{gateway.url}/v1/jobs", json=JOB, headers=headers, timeout=60)
    assert (told.status_code, told.headers["www-authenticate"]) == (401, "Bearer")
    assert told.json()["type"] == "urn:headrace:problem:unauthorized"


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_who_has_no_key_is_told_so_before_anything_is_read(gateway: Gateway, kind: str):
    paths = [path for path, operations in described(gateway)["paths"].items() if "post" in operations]
    assert {"/v1/files", "/v1/uploads/{upload_id}/parts", "/v1/batches", "/v1/jobs"} <= set(paths)
    for path in paths:
        assert told_unread(gateway, path, f"Content-Type: {kind}").startswith(b"HTTP/1.1 401 "), path


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_whose_key_lacks_the_scope_is_told_so_before_anything_is_read(gateway: Gateway, kind: str):
    key = f"Authorization: Bearer {gateway.key('default', METRICS)}"
    for path, operations in described(gateway)["paths"].items():
        if "post" not in operations:
            continue
        told = told_unread(gateway, path, key, f"Content-Type: {kind}")
        assert told.startswith(b"HTTP/1.1 403 "), path
        assert b"this key lacks the scope" in told, path


def test_a_key_does_what_its_scopes_say(gateway: Gateway):
    with gateway.client(gateway.key("default", JOBS_READ)) as reads:
        told = reads.post("/v1/jobs", json=JOB)
        assert (told.status_code, "jobs:write" in told.json()["detail"]) == (403, True)
    with gateway.client(gateway.key("default", JOBS_WRITE)) as writes:
        job_id = writes.post("/v1/jobs", json=JOB).json()["id"]
        assert writes.get(f"/v1/jobs/{job_id}").status_code == 200
    with gateway.client(gateway.key("default", FILES_WRITE)) as files:
        assert files.get(f"/v1/jobs/{job_id}").status_code == 403


def test_a_key_that_was_revoked_opens_nothing(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keyring, "KEPT_SECONDS", 0.0)
    key = gateway.key()
    with gateway.client(key) as client:
        assert client.post("/v1/jobs", json=JOB).status_code == 202
        assert gateway.services.ledger.of(ApiKeys).revoke(key.split("_")[1])
        assert client.post("/v1/jobs", json=JOB).status_code == 401


def test_a_key_with_another_s_id_opens_nothing(gateway: Gateway):
    import zlib

    key_id, secret = gateway.key().split("_")[1], "0" * 48
    forged = f"hr_{key_id}_{secret}{zlib.crc32(f'{key_id}_{secret}'.encode()):08x}"
    with gateway.client(forged) as client:
        assert client.post("/v1/jobs", json=JOB).status_code == 401


def test_without_keys_it_answers_programs_of_this_machine(gateway: Gateway):
    """And no page in a browser, which could send requests to loopback, too."""
    with served(gateway.settings, open_to="visitor") as opened:
        sent = httpx.post(f"{opened.url}/v1/jobs", json=JOB, timeout=60)
        assert sent.status_code == 202
        row = opened.services.ledger.standings([sent.json()["id"]])[sent.json()["id"]]
        assert row.tenant == "visitor"
        for headers in ({"host": "evil.example"}, {"host": "evil.example:8420"}, {"origin": "http://evil.example"}):
            assert httpx.post(f"{opened.url}/v1/jobs", json=JOB, headers=headers, timeout=60).status_code == 403
        assert (
            httpx.post(f"{opened.url}/v1/jobs", json=JOB, headers={"host": "[::1]:80"}, timeout=60).status_code == 202
        )


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_tenant_that_asks_too_often_is_told_so_before_anything_is_read(settings: Settings, kind: str):
    # One request at a time; the next one may come when this test is over, however slow the machine is.
    with served(changed(settings, GatewaySettings(rate=0.0001)), connected=False) as gateway:
        key = gateway.key()
        paths = [path for path, ways in described(gateway)["paths"].items() if "post" in ways]
        with gateway.client(key) as client:
            assert [client.get("/v1/files").status_code for _ in range(2)] == [200, 429]
        for path in paths:
            told = told_unread(gateway, path, f"Authorization: Bearer {key}", f"Content-Type: {kind}")
            assert told.startswith(b"HTTP/1.1 429 "), path
