"""The page at the gateway's address."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest
from tests.workers.http.served import Gateway


@pytest.fixture(scope="module")
def page(gateway: Gateway) -> httpx.Response:
    """The page as a browser without a key gets it, with a parameter that some other page added."""
    return httpx.get(f"{gateway.url}/?from=elsewhere", timeout=60)


class Seen(HTMLParser):
    """The attributes of a page that name something, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "srcset")]


def test_a_browser_without_a_key_gets_a_page(page: httpx.Response):
    """It says what this is, and is made for narrow windows and for dark ones."""
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "LLM answers, asynchronously" in page.text
    assert 'name="viewport"' in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_its_links_lead_to_what_there_is(gateway: Gateway, page: httpx.Response):
    """The description of the API and both kinds of health, and each answers without a key."""
    links = Seen(page.text).addresses
    assert set(links) == {"/openapi.json", "/healthz", "/readyz"}
    for link in links:
        assert httpx.get(f"{gateway.url}{link}", timeout=60).headers["content-type"] == "application/json"


def test_it_loads_nothing_and_its_policy_permits_only_its_own_style(page: httpx.Response):
    """No script, frame, image or font; a browser that is told to load one refuses."""
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
    """It is the same with a key, and names neither the host that was asked for nor the caller."""
    key = gateway.key("shop")
    told = httpx.get(f"{gateway.url}/", headers={"authorization": f"Bearer {key}", "host": "evil.example"}, timeout=60)
    assert told.content == page.content
    assert b"shop" not in told.content
