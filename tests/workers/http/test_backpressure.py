"""Backpressure reaches who asks: a reason and a time instead of a queue that grows."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed
from tests.workers.http.served import served

from headrace_workers.runtime.settings import GatewaySettings, Settings

JOB = {"model": "echo", "prompt": "x", "lane": "interactive"}


@pytest.mark.parametrize(
    ("limited", "why", "wait"),
    [
        (lambda usual: changed(usual, max_active=1), "ledger_full", "5"),
        (lambda usual: changed(usual, GatewaySettings(max_queue_age=0.001)), "queue_age", "10"),
    ],
)
def test_what_would_only_wait_is_refused_with_the_reason(
    settings: Settings, bridge: Any, limited: Callable[[Settings], Settings], why: str, wait: str
):
    with served(limited(settings)) as gateway, gateway.client() as client:
        with bridge():
            assert client.post("/v1/jobs", json=JOB).status_code == 202

            def refused() -> httpx.Response | None:
                told = client.post("/v1/jobs", json=JOB)
                return told if told.status_code == 429 else None

            told = eventually(refused)
        assert told.json()["type"] == f"urn:headrace:problem:{why}"
        assert told.headers["retry-after"] == wait
        chat = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        told = client.post("/v1/chat/completions", json=chat)
        assert (told.status_code, told.json()["error"]["code"]) == (429, why)
        bulk = client.post("/v1/jobs", json={**JOB, "lane": "batch"})
        assert bulk.status_code == (202 if why == "queue_age" else 429)
        told = client.post("/v1/jobs", json=JOB)  # that others were asked about meanwhile changes nothing
        assert told.status_code == 429
