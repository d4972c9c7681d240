"""The console without a browser: sign-in, headers on every response, and what the pages say."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed
from tests.workers.http.served import Gateway, answer, described, served

from headrace_schemas.grounding import Citation, Grounding
from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.access import keyring
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.console import commands, frame, store
from headrace_workers.features.console.frame import HEADERS, TEMPLATES, root_of
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewChunk, NewDocument
from headrace_workers.runtime.settings import GatewaySettings, Settings
from headrace_workers.wiring.gateway_app import ROUTERS

PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


@contextmanager
def browser(gateway: Gateway, *, key: str | None = None, name: str = "Ada") -> Iterator[httpx.Client]:
    """A client that has signed in, and sends the origin that a browser would."""
    with httpx.Client(
        base_url=f"{gateway.url}/console/", headers={"origin": gateway.url}, timeout=120, verify=False
    ) as client:
        told = client.post("sign-in", data={"name": name, "key": gateway.key() if key is None else key})
        assert (told.status_code, told.headers["location"]) == (303, "./playground/"), told.text
        yield client


def ask(client: httpx.Client, **fields: str) -> str:
    """Send the form; return the address of the job's page."""
    told = client.post("playground/", data={"model": "echo", "question": "What flows?", "nonce": "1", **fields})
    assert told.status_code == 303, told.text
    return urljoin(str(told.url), told.headers["location"])


def test_every_response_of_the_console_has_its_policy(gateway: Gateway):
    routes = [
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if route.path.startswith("/console")  # type: ignore[attr-defined]
        for method in route.methods  # type: ignore[attr-defined]
    ]
    assert len(routes) > 10
    places = [(method, re.sub(r"{\w+}", "x", path)) for method, path in routes]
    faults = [("GET", "/console/nothing"), ("DELETE", "/console/playground/"), ("GET", "/console/sign-in?x=1&x=2")]
    with browser(gateway) as signed_in, httpx.Client(base_url=gateway.url, timeout=60) as stranger:
        for client in (signed_in, stranger):
            for method, path in (*places, *faults):
                told = client.request(method, f"{gateway.url}{path}")
                assert {name: told.headers[name] for name in HEADERS} == HEADERS, (method, path)
        too_large = stranger.post("/console/sign-in", content=b"x" * 5_000_000)
        assert (too_large.status_code, too_large.headers["content-security-policy"]) == (
            413, HEADERS["content-security-policy"],
        )  # fmt: skip
        assert "text/html" in too_large.headers["content-type"]
    assert frame.PAGES.keys() == {"/console"}
    assert HEADERS["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def test_the_pages_are_not_described_as_api(gateway: Gateway):
    assert not any(path.startswith("/console") for path in described(gateway)["paths"])


def test_templates_escape_all_and_build_no_htmx_attribute_of_data():
    assert TEMPLATES.autoescape is True
    names = [file.name for file in files("headrace_workers.features.console").joinpath("templates").iterdir()]
    assert {"frame.html", "playground.html", "job.html", "progress.html", "steps.html", "receipt.html"} <= set(names)
    for name in names:
        text = files("headrace_workers.features.console").joinpath("templates", name).read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), name
        assert not re.search(r"hx-[\w:-]+=\"[^\"]*{", text), name
        assert not re.search(r"\s(?:style|on\w+)=|<script>|<style", text), name
        assert not re.search(r"\s[\w-]+=[^\"'\s>]*{{", text), f"{name} has an attribute without quotes"


@pytest.mark.parametrize(
    ("path", "root"),
    [("/console", "console/"), ("/console/", "./"), ("/console/sign-in", "./"), ("/console/playground/", "../"),
     ("/console/playground/x/part", "../../")],
)  # fmt: skip
def test_links_are_relative_to_the_page(path: str, root: str):
    assert root_of(path) == root
    assert urljoin(f"https://a/prefix{path}", root) == "https://a/prefix/console/"


def test_a_stranger_is_led_to_the_sign_in(gateway: Gateway):
    for path in ("", "/", "/playground/", "/playground/2e77d044-127a-560f-a255-3eaecc840637/"):
        told = httpx.get(f"{gateway.url}/console{path}", timeout=60, follow_redirects=True)
        assert (told.status_code, told.url.path) == (200, "/console/sign-in")
        assert "API key" in told.text
    part = httpx.get(f"{gateway.url}/console/playground/2e77d044-127a-560f-a255-3eaecc840637/part", timeout=60)
    assert (part.status_code, "<html" in part.text) == (401, False)


def test_the_cookie_is_for_the_console_alone_and_no_script_reads_it(gateway: Gateway):
    with browser(gateway) as client:
        (cookie,) = client.post("sign-in", data={"name": "Ada", "key": gateway.key()}).headers.get_list("set-cookie")
    name, _, attributes = cookie.partition("=")
    assert name == f"headrace_console_{gateway.url.rpartition(':')[2]}"
    assert {"HttpOnly", "SameSite=strict", "Path=/console", "Max-Age=43200"} <= set(attributes.split("; "))
    assert "Secure" not in attributes  # this gateway is not under https


def test_under_https_and_a_prefix_the_cookie_is_secure_and_has_the_prefix(settings: Settings):
    public = changed(settings, GatewaySettings(public_url="https://llm.example.com/mill"))
    with served(public) as gateway:
        headers = {"origin": "https://llm.example.com"}
        fields = {"name": "Ada", "key": gateway.key()}
        told = httpx.post(f"{gateway.url}/console/sign-in", data=fields, headers=headers, timeout=60)
        (cookie,) = told.headers.get_list("set-cookie")
        assert cookie.startswith("__Secure-headrace_console=")
        assert {"Secure", "HttpOnly", "Path=/mill/console"} <= set(cookie.split("; "))
        assert told.headers["location"] == "./playground/"
        assert httpx.post(f"{gateway.url}/console/sign-in", data=fields, headers={"origin": gateway.url}).is_error


FORMS = (
    "sign-in", "sign-out", "playground/", "playground/x/cancel", "jobs/x/cancel", "aside/plan", "review/x/decision"
)  # fmt: skip


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://localhost:1"])
def test_a_form_of_another_origin_changes_nothing(gateway: Gateway, origin: str | None):
    forged = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "forwarded": "host=evil.example"}
    with browser(gateway) as client:
        for path in FORMS:
            headers = {**forged, **({} if origin is None else {"origin": origin})}
            del client.headers["origin"]
            told = client.post(path, data={"name": "x"}, headers=headers)
            client.headers["origin"] = gateway.url
            assert (told.status_code, "HEADRACE_PUBLIC_URL" in told.text) == (403, True), path
        assert client.get("playground/").status_code == 200


def test_a_token_of_up_signs_in_once(gateway: Gateway):
    key = gateway.key()
    address = commands.offered_address(gateway.url, gateway.settings.ledger, key.split("_")[1])
    assert httpx.head(address, timeout=60).status_code == 200  # a look does not use it up
    with httpx.Client(timeout=60) as client:
        told = client.get(address, follow_redirects=True)
        assert (told.status_code, told.url.path) == (200, "/console/playground/")
        assert "tenant <bdi>default</bdi>" in told.text
        again = httpx.get(address, timeout=60)
        assert (again.status_code, "was used already" in again.text) == (401, True)
        assert "set-cookie" not in again.headers
        commands.end_sessions(gateway.settings.ledger)
        assert client.get(f"{gateway.url}/console/playground/").status_code == 303


def test_a_token_expires(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "TOKEN_MS", -1)
    address = commands.offered_address(gateway.url, gateway.settings.ledger, gateway.key().split("_")[1])
    assert httpx.get(address, timeout=60).status_code == 401


def test_the_ledger_has_digests_only(gateway: Gateway):
    with browser(gateway) as client:
        address = commands.offered_address(gateway.url, gateway.settings.ledger, gateway.key().split("_")[1])
        secrets = {address.partition("token=")[2], *client.cookies.values()}
    rows = [
        value
        for table in (store.CONSOLE_TOKENS, store.CONSOLE_SESSIONS)
        for row in gateway.services.ledger.read(table.select())
        for value in row
    ]
    assert len(secrets) == 2
    assert secrets.isdisjoint(rows)
    assert {store.Secret(secret).digest for secret in secrets} <= set(rows)


def test_a_key_that_is_revoked_ends_the_session(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    assert keyring.KEPT_SECONDS <= 5
    monkeypatch.setattr(keyring, "KEPT_SECONDS", 0.0)
    key = gateway.key()
    with browser(gateway, key=key) as client:
        assert client.get("playground/").status_code == 200
        gateway.services.ledger.of(ApiKeys).revoke(key.split("_")[1])
        told = client.get("playground/")
        assert (told.status_code, told.headers["location"]) == (303, "../sign-in")


def test_who_signs_out_is_out(gateway: Gateway):
    with browser(gateway) as client:
        cookies = dict(client.cookies)
        assert client.post("sign-out").headers["location"] == "./sign-in"
        client.cookies.update(cookies)  # a copy of the cookie opens nothing any more
        assert client.get("playground/").status_code == 303


def test_failed_attempts_are_limited_and_lock_nobody_out(alone: Gateway):
    headers = {"origin": alone.url}
    key = alone.key()
    address = commands.offered_address(alone.url, alone.settings.ledger, key.split("_")[1])
    with httpx.Client(base_url=f"{alone.url}/console/", headers=headers, timeout=60) as client:
        assert [client.get("sign-in?token=x").status_code for _ in range(5)] == [401] * 5
        wrong = {"name": "x", "key": "hr_x"}
        assert [client.post("sign-in", data=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
        told = client.get("sign-in?token=x")
        assert (told.status_code, 0 < int(told.headers["retry-after"]) <= 60) == (429, True)
        assert client.post("sign-in", data={"name": "x", "key": key}).status_code == 303
        assert client.get(address).status_code == 303


def test_a_keyless_gateway_takes_forms_of_its_console_and_no_other_request_of_a_page(settings: Settings):
    with served(settings, open_to="default") as gateway:
        with browser(gateway, key="") as client:
            assert "tenant <bdi>default</bdi>" in client.get("playground/").text
            kept = dict(client.cookies)
        headers = {"origin": gateway.url}
        assert httpx.get(f"{gateway.url}/v1/models", headers=headers, timeout=60).status_code == 403
        rebound = {"host": "evil.example"}
        with httpx.Client(base_url=f"{gateway.url}/console/", cookies=kept, timeout=60) as client:
            assert client.get("playground/", headers=rebound).status_code == 403
    with served(settings, open_to="default") as gateway:  # the session ended with its gateway
        name = f"headrace_console_{gateway.url.rpartition(':')[2]}"
        with httpx.Client(base_url=f"{gateway.url}/console/", cookies={name: min(kept.values())}, timeout=60) as client:
            assert client.get("playground/").status_code == 303


def test_who_may_only_read_cannot_ask(gateway: Gateway):
    with browser(gateway, key=gateway.key("default", JOBS_READ)) as client:
        told = client.post("playground/", data={"model": "echo", "question": "x"})
        assert (told.status_code, "jobs:write" in told.text) == (403, True)


def test_a_question_is_one_job_however_often_its_form_is_sent(alone: Gateway, bridge: Callable[[], Any]):
    with bridge(), browser(alone) as client:
        first = ask(client)
        assert ask(client) == first
        assert ask(client, nonce="2") != first
        assert ask(client, question="Another?") != first


def test_jobs_of_other_tenants_are_not_found(alone: Gateway, bridge: Callable[[], Any]):
    with bridge(), browser(alone) as client, browser(alone, key=alone.key("other")) as other:
        place = ask(client)
        assert client.get(place).status_code == 200
        for page in (place, f"{place}part"):
            assert other.get(page).status_code == 404
        assert other.post(f"{place}cancel").status_code == 404
        assert "What flows?" not in other.get(f"playground/?again={place.split('/')[-2]}").text


def test_texts_of_a_job_are_never_markup(alone: Gateway, bridge: Callable[[], Any]):
    with bridge(), browser(alone, name=PAYLOAD) as client:
        place = ask(client, question=PAYLOAD, system=PAYLOAD)
        job_id = place.split("/")[-2]
        eventually(lambda: alone.services.ledger.job(job_id))
        answer(alone.services.ledger, job_id, PAYLOAD)
        pages = [client.get(place), client.get(f"{place}part"), client.get(f"{place}../?after={job_id}")]
        pages.append(client.post("playground/", data={"model": PAYLOAD, "question": PAYLOAD, "format": "json_schema"}))
        pages.append(client.post("playground/", data={"model": PAYLOAD, "question": PAYLOAD}))
    assert [page.status_code for page in pages] == [200, 200, 200, 400, 400]
    for page in pages:
        assert "&lt;script&gt;alert(1)" in page.text
        assert "<img src=x" not in page.text
        assert "<script>" not in page.text
        assert "49" not in page.text.replace(job_id, "").partition("{{7*7}}")[0][-200:]


def test_passages_are_shown_to_those_who_may_read_the_base(alone: Gateway, bridge: Callable[[], Any]):
    chunk = NewChunk("c1", "", 0, 9, f"A mill. {PAYLOAD}", b"")
    alone.services.ledger.of(KnowledgeBases).put(
        NewDocument(tenant="default", knowledge="mills", name="mill.md", sha256="1", format="markdown", size=9,
                    embedder="hash", chunks=[chunk])
    )  # fmt: skip
    citations = tuple(
        Citation(number=number, document=name, start=0, stop=9, chunk=key, relevance=0.5, cited=True)
        for number, name, key in ((1, "mill.md", "c1"), (2, "mill.md", "gone"), (3, "other.md", "c1x"))
    )
    reader = alone.key("default", JOBS_READ)
    with bridge(), browser(alone) as client, browser(alone, key=reader) as without_scope:
        place = ask(client)
        job_id = place.split("/")[-2]
        eventually(lambda: alone.services.ledger.job(job_id))
        grounding = Grounding(knowledge="mills", floor=0.2, citations=citations)
        answer(alone.services.ledger, job_id, "Water [1], [2] and [4].", grounding=grounding)
        page = client.get(place).text
        assert page.count("A mill. &lt;script&gt;") == page.count("Its text") == 1
        assert re.findall(r'href="(#passage-\d)">\[(\d)]', page) == [("#passage-1", "1"), ("#passage-2", "2")]
        assert "Its text" not in without_scope.get(place).text


def test_a_form_that_is_wrong_keeps_what_was_written(gateway: Gateway):
    with browser(gateway) as client:
        wrong = {"model": "echo", "question": "Keep me", "temperature": "hot", "role": "user", "content": "Me, too"}
        told = client.post("playground/", data=wrong)
        assert told.status_code == 400
        assert "Temperature is &#39;hot&#39;: write a number" in told.text
        assert "Keep me" in told.text
        assert "Me, too" in told.text
        assert client.post("playground/", content=b"\xff").status_code == 400


def test_what_may_be_chosen_is_what_the_tenant_may_name(gateway: Gateway):
    with gateway.client() as api, browser(gateway) as client:
        listed = [
            entry["id"] for entry in api.get("/v1/models").json()["data"] if entry["headrace"]["kind"] == "generator"
        ]
        offered = re.findall(r'<option value="([^"]+)"', client.get("playground/").text.partition("Knowledge base")[0])
    assert offered
    assert offered == listed
