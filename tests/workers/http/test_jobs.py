from uuid import uuid4

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway, answer, served

from headrace_schemas.job import derive_job_id

NO_JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
JOB = {"model": "echo", "prompt": "Name three rivers."}


def send(client: httpx.Client, body: object = JOB, **headers: str) -> httpx.Response:
    return client.post("/v1/jobs", json=body, headers=headers)


def test_a_job_is_let_in_answered_and_told(client: httpx.Client):
    sent = send(client)
    assert sent.status_code == 202
    job_id = sent.json()["id"]
    assert sent.json() == {"object": "job", "id": job_id, "state": "accepted"}
    assert sent.headers["location"] == f"/v1/jobs/{job_id}"
    told = client.get(sent.headers["location"], params={"wait": 60}).json()
    assert (told["state"], told["kind"], told["type"]) == ("done", "generation", "headrace.result.v1")
    assert "three" in told["end"]["answer"]["text"]
    assert [(step["stage"], step["state"]) for step in told["steps"]] == [
        ("generate", "done"), ("moderate", "done"), ("judge", "done"),
    ]  # fmt: skip


def test_many_jobs_are_let_in_together(client: httpx.Client):
    body = [
        JOB,
        {"kind": "evaluation", "input": "2+2?", "output": "4", "criteria": [{"criterion": "length", "max_words": 3}]},
    ]
    sent = send(client, body, **{"Idempotency-Key": (key := str(uuid4()))})
    assert sent.status_code == 202
    ids = [entry["id"] for entry in sent.json()["data"]]
    assert ids == [derive_job_id("default", f"{key}/{number}") for number in range(2)]
    ends = [client.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json() for job_id in ids]
    assert [end["kind"] for end in ends] == ["generation", "evaluation"]
    assert [end["state"] for end in ends] == ["done", "done"]


def test_an_evaluation_has_a_door_of_its_own(client: httpx.Client):
    body = {"input": "2+2?", "output": "4", "reference": "4", "criteria": [{"criterion": "exact_match"}]}
    sent = client.post("/v1/evaluations", json=body)
    assert sent.status_code == 202
    told = client.get(f"/v1/jobs/{sent.json()['id']}", params={"wait": 60}).json()
    assert told["end"]["judge"]["scores"][0]["value"] == 1.0


def test_a_job_is_found_before_it_is_taken_in(alone: Gateway):
    """On this gateway and on every other of the deployment: `accepted`, never 404. Nobody else's."""
    with alone.client() as client, served(alone.settings) as second:
        for headers in ({}, {"Idempotency-Key": "order-17"}):
            job_id = send(client, **headers).json()["id"]
            for gateway in (alone, second):
                with gateway.client() as asker:
                    told = asker.get(f"/v1/jobs/{job_id}")
                    assert (told.status_code, told.json()["state"]) == (200, "accepted")
                with gateway.client(gateway.key("another")) as stranger:
                    assert stranger.get(f"/v1/jobs/{job_id}").status_code == 404


def test_what_was_let_in_is_taken_in(alone: Gateway, bridge):
    with alone.client() as client:
        job_id = send(client).json()["id"]
        with bridge():
            eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "active")
        answer(alone.services.ledger, job_id, "The Rhine.")
        told = client.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()
        assert told["end"]["answer"]["text"] == "The Rhine."


def test_the_same_key_is_the_same_job(alone: Gateway, bridge):
    ledger = alone.services.ledger
    with alone.client() as client, alone.client(alone.key("another")) as other:
        key = {"Idempotency-Key": "order-17"}
        ids = [send(client, **key).json()["id"] for _ in range(3)]
        assert set(ids) == {derive_job_id("default", "order-17")}
        refused = send(client, {**JOB, "prompt": "something else"}, **key)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
        assert refused.json()["type"] == "urn:headrace:problem:conflict"
        assert send(other, {**JOB, "prompt": "something else"}, **key).json()["id"] == derive_job_id(
            "another", "order-17"
        )
        with bridge():
            eventually(lambda: ledger.active_jobs() == 2)
            assert send(client, **key).json()["id"] == ids[0]
            assert send(client, {**JOB, "prompt": "something else"}, **key).status_code == 409
            later = {**JOB, "deadline": "2199-01-01T00:00:00Z"}
            assert send(client, later, **key).json()["id"] == ids[0]  # a deadline is no content
        assert ledger.overview().dead_letters == 0  # nothing was sent that ingest had to refuse


def test_what_ingest_refuses_is_told_and_has_a_new_chance(alone: Gateway, bridge):
    with alone.client() as client, bridge():
        key = {"Idempotency-Key": "order-18"}
        late = {**JOB, "deadline": "2026-11-26T00:00:00.000001Z"}
        assert send(client, late, **key).status_code == 400  # at the door
        alone.services.admission._check = lambda _jobs: None  # an admission that looks less closely
        job_id = send(client, late, **key).json()["id"]
        told = eventually(
            lambda: (
                (found := client.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json())["state"] == "refused" and found
            )
        )
        assert told["end"]["category"] == "expired"
        assert send(client, **key).json()["id"] == job_id
        eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "active")


def test_with_a_log_in_memory_only_the_ledger_counts(settings, bridge):
    with served(settings, durable=False) as gateway, gateway.client() as client, bridge():
        # Until the bridge reads, nobody has taken a job in.
        sent = eventually(lambda: (found := send(client)).status_code == 202 and found)
        assert gateway.services.ledger.job(sent.json()["id"]) is not None
        gateway.services.admission._check = lambda _jobs: None
        late = {**JOB, "deadline": "2026-11-26T00:00:00.000001Z"}
        refused = send(client, late)
        assert (refused.status_code, "has passed" in refused.json()["detail"]) == (400, True)


def test_a_job_is_cancelled(alone: Gateway, bridge):
    with alone.client() as client:
        ahead = send(client).json()["id"]
        told = client.delete(f"/v1/jobs/{ahead}").json()
        assert (told["state"], told["type"]) == ("cancelled", "headrace.job.cancelled.v1")
        with bridge():
            active, done = send(client).json()["id"], send(client).json()["id"]
            eventually(lambda: alone.services.ledger.active_jobs() == 2)
        assert client.delete(f"/v1/jobs/{active}").json()["state"] == "cancelled"
        answer(alone.services.ledger, done)
        assert client.delete(f"/v1/jobs/{done}").json()["state"] == "done"
        with alone.client(alone.key("another")) as stranger:
            assert stranger.delete(f"/v1/jobs/{ahead}").status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "empty"),
        (b"7", "JSON object"),
        (b'[{"model":"echo","prompt":"x"},7]', "job 1"),
        (b'{"model":"echo","prompt":"x","kind":"poem"}', "kind"),
        (b'{"model":"echo"}', "neither prompt nor messages"),
        (b'{"model":"echo","prompt":"x","colour":"red"}', "colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(client: httpx.Client, body: bytes, words: str):
    told = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert told.status_code == 400, told.text
    assert told.headers["content-type"] == "application/problem+json"
    assert words in told.json()["detail"], told.json()
    assert told.json()["request_id"] == told.headers["x-request-id"]


def test_a_job_of_another_tenant_is_not_sent(client: httpx.Client):
    assert send(client, {**JOB, "tenant": "default"}).status_code == 202
    assert send(client, {**JOB, "tenant": "another"}).status_code == 403
    assert send(client, {**JOB, "idempotency_key": "a"}, **{"Idempotency-Key": "b"}).status_code == 400
    assert send(client, JOB, **{"Idempotency-Key": "k" * 257}).status_code == 400


@pytest.mark.parametrize("job_id", ["nothing", NO_JOB, NO_JOB.upper(), "%00", "a" * 4_000])
def test_a_job_that_is_none_is_not_found(client: httpx.Client, job_id: str):
    for told in (client.get(f"/v1/jobs/{job_id}"), client.delete(f"/v1/jobs/{job_id}")):
        assert told.status_code == 404
        assert told.json()["type"] == "urn:headrace:problem:not_found"


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon", "1e999"])
def test_a_wait_that_is_none_is_refused(client: httpx.Client, wait: str):
    told = client.get(f"/v1/jobs/{uuid4()}", params={"wait": wait})
    assert (told.status_code, "wait" in told.json()["detail"]) == (400, True)
