import json
import threading

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway, answer

from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.http.limits import TenantSlots

JOB = {"model": "echo", "prompt": "Name three rivers."}


def events(response: httpx.Response) -> "list[tuple[str, str, dict]]":
    """Id, event and data of each, to the end of the stream."""
    found, fields = [], {}
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
            fields = {}
    return found


def test_a_job_is_followed_to_its_end(client: httpx.Client):
    job_id = client.post("/v1/jobs", json=JOB).json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events(response)
    assert [event for _, event, _ in found][:1] == ["accepted"]
    last_id, event, data = found[-1]
    assert (last_id, event, data["end"]["status"]) == ("end", "end", "completed")
    done = [data["stage"] for _, event, data in found if event == "step" and data["state"] == "done"]
    assert done == ["generate", "moderate", "judge"]


def test_a_stream_is_gone_on_with(client: httpx.Client):
    job_id = client.post("/v1/jobs", json=JOB).json()["id"]
    client.get(f"/v1/jobs/{job_id}", params={"wait": 60})
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        whole = events(response)
    for number, (heard, _, _) in enumerate(whole):
        with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": heard}) as response:
            assert events(response) == whole[number + 1 :]


def test_changes_are_told_as_they_come(alone: Gateway, bridge):
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        heard: list[str] = []

        def listen():
            with alone.client() as own, own.stream("GET", f"/v1/jobs/{job_id}/events") as response:
                for line in response.iter_lines():
                    heard.extend([line[4:]] if line.startswith("id: ") else [])

        thread = threading.Thread(target=listen)
        thread.start()
        eventually(lambda: heard == ["accepted"])
        with bridge():
            eventually(lambda: len(heard) == 2)
        answer(alone.services.ledger, job_id)
        thread.join(60)
        assert (heard[0], heard[1].startswith("generate.0."), heard[-1]) == ("accepted", True, "end")


def test_a_stream_ends_when_its_key_is_revoked(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace_workers.features.access.keyring.KEPT_SECONDS", 0.0)
    keys = [alone.key(), alone.key()]
    with alone.client() as client, alone.client(keys[0]) as first, alone.client(keys[1]) as second:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        way = f"/v1/jobs/{job_id}/events"
        with first.stream("GET", way) as ends, second.stream("GET", way) as goes_on:
            lines, others = ends.iter_lines(), goes_on.iter_lines()
            for item in (lines, others):
                eventually(lambda each=item: next(each) == "id: accepted")
            assert alone.services.ledger.of(ApiKeys).revoke(keys[0].split("_")[1])
            assert first.get(way).status_code == 401
            assert client.delete(f"/v1/jobs/{job_id}").status_code == 200
            assert ("event: end" in list(lines), "event: end" in list(others)) == (False, True)


def test_a_stream_ends_when_the_gateway_does(alone: Gateway):
    with alone.client() as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            eventually(lambda: next(lines) == "id: accepted")
            alone.server.should_exit = True
            rest = list(lines)
    assert not any("end" in line for line in rest)


def test_a_tenant_may_have_so_many_streams_and_no_more(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alone.services, "streams", TenantSlots("event streams", 2))
    with alone.client() as client, alone.client(alone.key("other")) as other:
        way, theirs = (f"/v1/jobs/{item.post('/v1/jobs', json=JOB).json()['id']}/events" for item in (client, other))
        with (
            client.stream("GET", way) as first,
            client.stream("GET", way) as second,
            other.stream("GET", theirs) as far,
        ):
            assert {response.status_code for response in (first, second, far)} == {200}
            told = client.get(way)
            assert (told.status_code, told.headers["retry-after"]) == (429, "1")
            assert "2 event streams under way" in told.json()["detail"]

        def is_taken() -> bool:
            with client.stream("GET", way) as again:
                return again.status_code == 200

        eventually(is_taken)  # the server sees a moment later that the others have hung up
