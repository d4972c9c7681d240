import httpx
import pytest
from tests.workers.http.served import Gateway, described

from headrace_workers.http.errors import is_native
from headrace_workers.wiring.gateway_app import ROUTERS

FREE = {"/healthz", "/readyz", "/metrics"}  # programs of all kinds ask for these, and say what they like


def test_every_route_refuses_what_it_does_not_have(gateway: Gateway, client: httpx.Client):
    walked = 0
    for path, operations in described(gateway)["paths"].items():
        where = path.replace("{", "").replace("}", "")
        for method in operations:
            told = client.request(method, where, params={"surprise": "1"}, json={} if method == "post" else None)
            if path in FREE:
                assert told.status_code in (200, 503), (method, path, told.text)
                continue
            assert told.status_code == 400, (method, path, told.text)
            words = told.json()["detail"] if is_native(path) else told.json()["error"]["message"]
            assert words == "surprise is not known here: leave it out", (method, path)
            walked += 1
    assert walked > len(ROUTERS)


@pytest.mark.parametrize(
    "path", ["/v1/files?limit=1&limit=2", "/v1/jobs/x?wait=1&wait=2", "/v1/usage?to=2026-01-01&to="]
)
def test_what_is_said_twice_is_refused(client: httpx.Client, path: str):
    """Else one of both would be passed over."""
    told = client.get(path)
    assert told.status_code == 400
    assert "is given more than once" in told.text


def test_a_form_that_says_something_twice_is_refused(client: httpx.Client):
    """Of two files one would be lost."""
    files = [("file", ("a.jsonl", b"1")), ("file", ("b.jsonl", b"2"))]
    told = client.post("/v1/files", files=files, data={"purpose": "user_data"})
    assert (told.status_code, told.json()["error"]["message"]) == (400, "file: is given more than once")


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/uploads"])
def test_what_is_no_word_of_an_expiry_is_named(client: httpx.Client, path: str):
    """Also within what else is known."""
    expiry = {"anchor": "created_at", "seconds": 3_600, "minutes": 1}
    body = {"output_expires_after" if "batches" in path else "expires_after": expiry}
    told = client.post(path, json=body)
    assert told.status_code == 400
    assert "expires_after.minutes" in told.json()["error"]["message"]


@pytest.mark.parametrize("what", ["files", "batches", "webhook_endpoints", "vector_stores", "evals"])
def test_nothing_comes_behind_what_is_not_there(client: httpx.Client, what: str):
    """An empty page would say that there is no more."""
    told = client.get(f"/v1/{what}", params={"after": "no-such-thing"})
    assert told.status_code in (400, 404)
    assert "of this id" in told.json()["error"]["message"]


def test_a_text_where_a_file_is_wanted_is_told_so(client: httpx.Client):
    told = client.post("/v1/files", data={"file": "x", "purpose": "batch"}, files={"other": b""})
    assert (told.status_code, told.json()["error"]["message"]) == (400, "body.file: must be a file, not text")
