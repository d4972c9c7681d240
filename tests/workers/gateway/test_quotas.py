"""Quotas in tokens, at the door."""

from tests.services.eventually import eventually
from tests.workers.gateway.served import Gateway, answer

JOB = {"model": "echo", "prompt": "Name three rivers.", "sampling": {"max_tokens": 40}}


def test_a_tenant_uses_what_it_may_and_no_more(alone: Gateway, bridge):
    """What was let in is taken in; what goes beyond is 429, and was not sent; what has ended makes room."""
    ledger = alone.services.ledger
    ledger.put_quota("default", 100, "day")
    with alone.client() as client, alone.client(alone.key("another")) as other:
        first = client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "a"}).json()["id"]
        used = ledger.quotas()[0].reserved
        assert 40 < used < 100
        refused = client.post("/v1/jobs", json=[JOB, JOB])
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:headrace:problem:quota")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-should-retry"] == "false"
        assert other.post("/v1/jobs", json=[JOB] * 10).status_code == 202
        assert client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "a"}).json()["id"] == first
        assert ledger.quotas()[0].reserved == used  # the same job
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{first}").json()["state"] == "active")
        assert client.post("/v1/jobs", json={**JOB, "sampling": {"max_tokens": 90}}).status_code == 429
        answer(ledger, first)
        quota = ledger.quotas()[0]
        assert (quota.used, quota.reserved) == (10, 0)
        assert client.post("/v1/jobs", json={**JOB, "sampling": {"max_tokens": 60}}).status_code == 202


def test_the_answers_that_a_floor_may_ask_for_are_reserved_at_the_door(alone: Gateway):
    """As ingest counts them: a job is not let in with less than it may use."""
    again = {
        "criteria": [{"criterion": "contains", "text": "Rhine"}],
        "min_quality": {"criterion": "contains", "value": 1},
    }
    alone.services.ledger.put_quota("default", 100, "day")
    with alone.client() as client:
        refused = client.post("/v1/jobs", json={**JOB, **again})
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:headrace:problem:quota")
        assert client.post("/v1/jobs", json=JOB).status_code == 202


def test_what_comes_by_kafka_beyond_a_quota_is_told_of(alone: Gateway, bridge):
    """A door that did not know of the quota let it in; ingest refuses it, and its state says why."""
    ledger = alone.services.ledger
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        ledger.put_quota("default", 10, "ever")
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "refused")
        told = client.get(f"/v1/jobs/{job_id}").json()
    assert told["end"]["category"] == "quota"
    assert "may use 10 tokens" in told["end"]["reason"]
