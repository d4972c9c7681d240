import re
import shutil
import subprocess

import pytest
from sqlalchemy import delete, update
from tests.workers.http.served import Gateway
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.metrics import LedgerMetrics
from headrace_workers.core.scopes import METRICS, usual_scopes
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import METRICS as WRITTEN
from headrace_workers.core.tables import NEVER, STEPS
from headrace_workers.features.judging import store as scored
from headrace_workers.features.quality.store import PassRate, PassRates
from headrace_workers.http.metrics import LedgerMetricsReader
from headrace_workers.runtime.bridge.duty import DutyLease
from headrace_workers.runtime.bridge.metrics import MetricsDuty

CLOCK = SystemClock()

JOB = {"model": "echo", "prompt": "the secret of the mill"}


def figure(text: str, line: str) -> float:
    match = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def test_requests_jobs_and_refusals_are_counted(alone: Gateway):
    gateway, key = alone, alone.key("shop-of-the-mill")
    with gateway.client() as own, gateway.client(key) as client:
        before = own.get("/metrics").text
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        client.get(f"/v1/jobs/{job_id}")
        client.post("/v1/jobs", content=b"{")
        client.get(f"/v1/nowhere/{job_id}")
        after = own.get("/metrics").text

    def grown(line: str) -> float:
        return figure(after, line) - figure(before, line)

    assert grown('headrace_gateway_requests_total{method="POST",route="/v1/jobs",status="202"}') == 1
    assert grown('headrace_gateway_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"}') == 1
    assert grown('headrace_gateway_requests_total{method="GET",route="-",status="404"}') == 1
    assert grown('headrace_gateway_jobs_total{kind="generation"}') == 1
    assert grown('headrace_gateway_refused_total{why="invalid"}') == 1
    assert grown('headrace_gateway_request_seconds_count{route="/v1/jobs"}') == 2
    assert [figure(after, f'headrace_gateway_up{{service="{name}"}}') for name in ("kafka", "ledger", "redis")] == [
        1,
        1,
        1,
    ]
    assert not any(said in after for said in ("mill", job_id, key))


def test_they_are_shown_to_whom_may_see_the_whole(gateway: Gateway):
    with gateway.client(gateway.key("shop", *usual_scopes())) as client:
        assert client.get("/metrics").status_code == 403
    with gateway.client(gateway.key("shop", METRICS)) as client:
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def look(gateway: Gateway) -> None:
    """A bridge looks at the ledger, and the gateway asks for what it saw at the next scrape."""
    ledger = gateway.services.ledger
    MetricsDuty(ledger=ledger, lease=DutyLease("metrics", ledger=ledger, bridge="b", clock=CLOCK, seconds=30.0),
                clock=CLOCK).once()  # fmt: skip
    gateway.services.ledger_metrics = LedgerMetricsReader(
        lambda: gateway.services.ask(ledger.of(LedgerMetrics).last), patience=60.0
    )


def test_pass_rates_are_those_that_the_ledger_has(alone: Gateway):
    gateway = alone
    rate = PassRate("polite", "v1", 0.25, 0.125, 0.5, 0.95, 40, 900)
    gateway.services.ledger.of(PassRates).put("shop-of-rates", [rate])
    look(gateway)
    line = 'headrace_pass_rate{}{{criterion="polite",tenant="shop-of-rates",version="v1"}}'
    with gateway.client() as client:
        text = client.get("/metrics").text
        assert [figure(text, line.format(name)) for name in ("", "_low", "_high", "_labels")] == [0.25, 0.125, 0.5, 40]
        gateway.services.ledger.of(PassRates).put("shop-of-rates", [])
        look(gateway)
        assert "shop-of-rates" not in client.get("/metrics").text


def test_scores_and_what_is_held_are_those_that_the_ledger_has(alone: Gateway):
    gateway, ledger = alone, alone.services.ledger
    lacking = 'headrace_scores_total{criterion="f1",not_judged="no_reference"}'
    held = 'headrace_jobs_held{stage="judge",waits_for="person"}'
    with gateway.client() as client:
        look(gateway)
        before = client.get("/metrics").text
        with writing(ledger.engine) as tx:
            scored.add_scores(tx, {("f1", "no_reference"): 3, ("f1", ""): 2})
        (job_id,) = take_in(ledger, [evaluation(tenant="of-figures")])
        with writing(ledger.engine) as tx:
            step = STEPS.c.job_id == job_id
            tx.execute(update(STEPS).where(step).values(state="held", held_at=1, ready_at=NEVER, reason="look"))
        look(gateway)
        after = client.get("/metrics").text
        ledger.withhold([job_id], "no")
        look(gateway)
        gone = client.get("/metrics").text
    assert figure(after, lacking) - figure(before, lacking) == 3
    assert (figure(before, held), figure(after, held), figure(gone, held)) == (0, 1, 0)


def test_without_a_bridge_that_looked_the_ledger_has_no_metrics_and_an_infinite_age(alone: Gateway):
    with writing(alone.services.ledger.engine) as tx:
        tx.execute(delete(WRITTEN))
    with alone.client() as client:
        text = client.get("/metrics").text
    assert figure(text, "headrace_ledger_metrics_age_seconds") == float("inf")
    assert "headrace_jobs_held" not in text


def test_promtool_has_nothing_to_say(alone: Gateway):
    """Names, units and help are as Prometheus asks, and no sample is there twice."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is needed (Debian: prometheus)")
    gateway, ledger = alone, alone.services.ledger
    take_in(ledger, [evaluation(tenant="of-promtool")])
    look(gateway)
    with gateway.client() as client:
        text = client.get("/metrics").content
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_set_is_closed(alone: Gateway):
    gateway = alone
    look(gateway)
    with gateway.client() as client:
        text = client.get("/metrics").text
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert {name for name in names if not name.endswith("_created")} == {
        "headrace_gateway_requests_total", "headrace_gateway_request_seconds", "headrace_gateway_bytes_total",
        "headrace_gateway_jobs_total", "headrace_gateway_refused_total", "headrace_gateway_waiting",
        "headrace_gateway_up", "headrace_pass_rate", "headrace_pass_rate_low", "headrace_pass_rate_high",
        "headrace_pass_rate_labels", "headrace_scores_total", "headrace_unparsable_jobs",
        "headrace_jobs_ready", "headrace_jobs_oldest_ready_seconds", "headrace_deadline_slack_seconds",
        "headrace_jobs_leased", "headrace_jobs_waiting", "headrace_jobs_parked", "headrace_jobs_held",
        "headrace_jobs_ended_total", "headrace_outbox_rows", "headrace_outbox_set_aside_rows",
        "headrace_outbox_oldest_seconds", "headrace_dead_letters", "headrace_ledger_metrics_age_seconds",
        "headrace_consumer_lag", "headrace_workers", "headrace_workers_wanted",
        "headrace_tokens_total", "headrace_cost_total", "headrace_batch_lines", "headrace_webhook_deliveries_total",
        "headrace_breaker_state",
    }  # fmt: skip
