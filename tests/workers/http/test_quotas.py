from datetime import UTC, datetime, timedelta

import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway, answer

from headrace_producers import Producer
from headrace_producers.kafka import KafkaSink
from headrace_schemas import GenerationJob
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.features.access.store.quotas import Quotas

JOB = {"model": "echo", "prompt": "Name three rivers.", "sampling": {"max_tokens": 40}}


def test_a_tenant_uses_what_it_may_and_no_more(alone: Gateway, bridge):
    ledger = alone.services.ledger
    ledger.of(Quotas).put("default", 100, "day")
    with alone.client() as client, alone.client(alone.key("another")) as other:
        first = client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "a"}).json()["id"]
        used = ledger.of(Quotas).find()[0].reserved
        assert 40 < used < 100
        refused = client.post("/v1/jobs", json=[JOB, JOB])
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:headrace:problem:quota")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-should-retry"] == "false"
        assert other.post("/v1/jobs", json=[JOB] * 10).status_code == 202
        assert client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "a"}).json()["id"] == first
        assert ledger.of(Quotas).find()[0].reserved == used  # the same job
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{first}").json()["state"] == "active")
        assert client.post("/v1/jobs", json={**JOB, "sampling": {"max_tokens": 90}}).status_code == 429
        answer(ledger, first)
        quota = ledger.of(Quotas).find()[0]
        assert (quota.used, quota.reserved) == (10, 0)
        assert client.post("/v1/jobs", json={**JOB, "sampling": {"max_tokens": 60}}).status_code == 202


def test_a_key_whose_job_a_quota_refused_may_be_used_for_other_content(alone: Gateway):
    alone.services.ledger.of(Quotas).put("default", 100, "day")
    key = {"Idempotency-Key": "k"}
    with alone.client() as client:
        large = {**JOB, "sampling": {"max_tokens": 20_000}}
        assert client.post("/v1/jobs", json=large, headers=key).status_code == 429
        assert client.post("/v1/jobs", json=JOB, headers=key).status_code == 202


def test_a_list_that_is_refused_for_one_key_leaves_the_others_free(alone: Gateway):
    taken, free = {**JOB, "idempotency_key": "taken"}, {**JOB, "idempotency_key": "free"}
    other = {"prompt": "Name a lake."}
    with alone.client() as client:
        assert client.post("/v1/jobs", json=taken).status_code == 202
        assert client.post("/v1/jobs", json=[free, taken | other]).status_code == 409
        assert client.post("/v1/jobs", json=free | other).status_code == 202


def test_what_comes_by_kafka_beyond_a_quota_is_told_of(alone: Gateway, bridge):
    ledger = alone.services.ledger
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        ledger.of(Quotas).put("default", 10, "ever")
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "refused")
        told = client.get(f"/v1/jobs/{job_id}").json()
    assert told["end"]["category"] == "quota"
    assert "may use 10 tokens" in told["end"]["reason"]


@pytest.mark.parametrize("door", ["http", "kafka"])
def test_a_small_job_that_was_refused_opens_no_quota_for_a_large_one(
    alone: Gateway, bridge, settings, monkeypatch: pytest.MonkeyPatch, door: str
):
    """Its key is free again, and what was reserved for it is given back when it is refused."""
    ledger = alone.services.ledger
    deadline = datetime.now(UTC) - timedelta(hours=1)
    # The gateway's clock is slow: it lets in a job that ingest refuses.
    monkeypatch.setattr(alone.services.admission, "_now", lambda: deadline - timedelta(minutes=1))
    ledger.of(Quotas).put("default", 100, "ever")
    key = {"Idempotency-Key": "k"}
    large = {**JOB, "sampling": {"max_tokens": 20_000}}
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json={**JOB, "deadline": deadline.isoformat()}, headers=key).json()["id"]
        reserved = ledger.of(Quotas).find()[0].reserved
        assert reserved > 40
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "refused")
            assert ledger.of(Quotas).find()[0].reserved == 0
            if door == "http":
                assert client.post("/v1/jobs", json=large, headers=key).status_code == 429
            else:
                with Producer(KafkaSink(settings.kafka)) as producer:
                    job = GenerationJob.model_validate({**large, "idempotency_key": "k"}, strict=False)
                    producer.submit(job)
                eventually(lambda: len(ledger.dead(DeadFilter(), 10)) == 2)
            assert (ledger.active_jobs(), ledger.of(Quotas).find()[0].reserved) == (0, 0)


def reserving(client, ledger):
    """The budget, if one more job reserves of it."""
    assert client.post("/v1/jobs", json=JOB).status_code == 202
    (budget,) = ledger.of(Quotas).find(unit="money")
    return budget if budget.reserved else None


def test_a_budget_refuses_at_the_door_what_it_does_not_hold(alone: Gateway):
    ledger = alone.services.ledger
    ledger.of(Quotas).put("default", 10**9, "month", unit="money")
    catalogue = alone.settings.home / "models.toml"
    with alone.client() as client:
        assert client.post("/v1/jobs", json=JOB).status_code == 202
        assert [quota.reserved for quota in ledger.of(Quotas).find(unit="money")] == [0]
        catalogue.write_text("[prices.echo]\ninput = 1.0\noutput = 2.0\n")
        try:
            budget = eventually(lambda: reserving(client, ledger))  # the price is seen within a second
            assert 80 < budget.reserved < 10_000
            ledger.of(Quotas).put("default", budget.reserved + 1, "month", unit="money")
            refused = client.post("/v1/jobs", json=JOB)
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:headrace:problem:quota")
            assert "may spend" in refused.json()["detail"]
        finally:
            catalogue.unlink()
