"""The page *Now* without a browser: who sees it, what it says, and what it costs the ledger."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.workers.http.served import Gateway
from tests.workers.http.test_console import PAYLOAD, browser
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.ledger.incidents import tell
from headrace_workers.core.scopes import JOBS_READ, OPERATOR, usual_scopes
from headrace_workers.core.sql.database import writing
from headrace_workers.features.console import now, store
from headrace_workers.features.console.connections import CONNECTIONS, ConsoleReads
from headrace_workers.features.console.situation import Situations
from headrace_workers.features.generation.store.breakers import Breaker, Breakers


def test_now_is_for_operators(gateway: Gateway):
    with browser(gateway, key=gateway.key("default", *usual_scopes())) as client:
        assert 'href="../now/"' not in client.get("playground/").text
        told = [client.get("now/"), client.get("now/part")]
        assert [(response.status_code, OPERATOR in response.text) for response in told] == [(403, True)] * 2
    with browser(gateway, key=gateway.key("default", JOBS_READ, OPERATOR)) as client:
        assert 'href="../now/"' in client.get("playground/").text
        page, part = client.get("now/"), client.get("now/part")
        assert (page.status_code, part.status_code) == (200, 200)
        assert 'hx-trigger="every 1s"' in page.text
        assert '<a href="./">Look again</a>' in page.text  # without JavaScript
        assert "<html" not in part.text


def test_it_says_what_is_wrong_and_the_next_step_and_texts_stay_text(alone: Gateway):
    ledger = alone.services.ledger
    with browser(alone) as client:
        assert "Nothing is wrong" in client.get("now/").text
    take_in(ledger, [generation(model="echo")])
    with writing(ledger.engine) as tx:
        tell(tx, PAYLOAD, "relay", {PAYLOAD: PAYLOAD})
    failed = Breaker(failures=5, openings=1, opened_at=1, open_until=4_000_000_000_000, reason=PAYLOAD)
    ledger.of(Breakers).follow("echo", lambda *_: failed)
    alone.services.of(now.Live)._at = float("-inf")
    with browser(alone) as client:
        page = client.get("now/").text
    assert "no worker listens to generate.echo" in page or "no worker listens to model.echo" in page
    assert "headrace worker --role generate --model echo" in page
    assert "Nothing is wrong" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 4
    assert "<script>" not in page.replace('<script src="', "")
    assert "<img src=x" not in page


def test_all_viewers_share_one_look_and_their_polls_one_session(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    looks: list[str] = []

    def counted(of: type, name: str) -> None:
        call = getattr(of, name).__get__

        def method(self: Any) -> Callable[..., Any]:
            def run(*args: Any) -> Any:
                looks.append(name)
                return call(self, of)(*args)

            return run

        monkeypatch.setattr(of, name, property(method))

    counted(Situations, "look")
    counted(store.ConsoleSessions, "find")
    monkeypatch.setattr(now, "LIFETIME", 3_600.0)
    view = now.view
    monkeypatch.setattr(now, "view", lambda *args: (looks.append("view"), view(*args))[1])
    with browser(alone) as client, ThreadPoolExecutor(8) as threads:
        client.get("now/part")
        told = [*threads.map(lambda _: client.get("now/part").status_code, range(16))]
        assert told == [200] * 16
        assert looks == ["find", "look", "view"]
        kept = dict(client.cookies)
        client.get("now/")  # a page looks its session up
        assert looks == ["find", "look", "view", "find", "view"]
        client.post("sign-out")
        client.cookies.update(kept)
        assert client.get("now/part").status_code == 401


def test_looks_take_a_fiftieth_of_the_time_at_most(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    looks: list[float] = []
    look = Situations.look.__get__  # type: ignore[attr-defined]

    def slow(store: Situations, *args: Any) -> Any:
        looks.append(clock[0])
        clock[0] += 3.0
        return look(store, Situations)(*args)

    monkeypatch.setattr(Situations, "look", slow)
    monkeypatch.setattr(alone.services.of(now.Live), "_monotonic", lambda: clock[0])
    with browser(alone) as client:
        for at in (0.0, 4.0, 152.0, 154.0, 160.0):
            clock[0] = max(at, clock[0])
            assert client.get("now/part").status_code == 200
    assert looks == [0.0, 154.0]


def test_the_console_reads_by_two_connections_of_its_own_and_two_seconds_a_statement(alone: Gateway):
    reads = alone.services.of(ConsoleReads)
    pids = lambda ledger: ledger.read(text("SELECT pg_backend_pid(), pg_sleep(0.01)"))[0][0]  # noqa: E731
    with ThreadPoolExecutor(4) as others:
        theirs = {*others.map(lambda _: pids(alone.services.ledger), range(8))}
    futures = [reads._executor.submit(pids, reads.ledger) for _ in range(16)]
    own = {future.result() for future in futures}
    assert len(own) <= CONNECTIONS == 2
    assert own.isdisjoint(theirs)
    assert reads.ledger.read(text("SHOW statement_timeout")) == [("2s",)]
    assert reads.ledger.read(text("SHOW max_parallel_workers_per_gather")) == [("0",)]  # nor processes of the database


def test_the_plot_has_no_style_that_the_policy_refuses(gateway: Gateway):
    with browser(gateway) as client:
        plot = client.get("now/").text.partition("<figure>")[2].partition("</figure>")[0]
    assert 'class="bar one"' in plot
    assert "style" not in plot
    assert httpx.get(f"{gateway.url}/console/now/part", timeout=60).status_code == 401
