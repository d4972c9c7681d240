import re
from pathlib import Path
from typing import Any

import pytest
from tests.workers.http.served import Gateway, served
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_workers.core.scopes import all_scopes
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.quality.feature import REVIEWS_READ

WHEN = "2026-01-31T12:00:00.123Z"


@pytest.fixture
def jobs(alone: Gateway) -> list[str]:
    """Three jobs of the tenant `default`."""
    return take_in(alone.services.ledger, [evaluation(input=f"{n}") for n in range(3)])


def label(job_id: str, **fields: object) -> dict[str, object]:
    return {"job_id": job_id, "criterion": "right", "label": True, "who": "ann", "when": WHEN, **fields}


def test_labels_go_in_once_and_come_out_by_pages(alone: Gateway, jobs: list[str]):
    sent = [label(job) for job in jobs] + [label(jobs[0], criterion=None, category="profanity", label=False)]
    sent[3].pop("criterion")
    sent[1] |= {"probability": 0.5}
    with alone.client() as client:
        assert client.post("/v1/labels", json={"labels": sent}).json()["new"] == 4
        again = client.post("/v1/labels", json={"labels": sent})
        assert (again.status_code, again.json()) == (200, {"object": "labels.added", "new": 0, "refused": []})
        found, after = [], None
        while after != "":
            page = client.get("/v1/labels", params={"limit": 3} | ({"after": after} if after else {})).json()
            found += page["data"]
            after = page["last_id"] if page["has_more"] else ""
        assert sorted(item["job_id"] for item in found) == sorted([*jobs, jobs[0]])
        assert {item["probability"] for item in found} == {None, 0.5}
        assert found[0] | {"id": ""} == {
            "id": "", "job_id": jobs[0], "criterion": None, "category": "profanity", "label": False, "score": None,
            "who": "ann", "when": WHEN, "probability": None, "item": None,
        }  # fmt: skip
        only = client.get("/v1/labels", params={"criterion": "right", "job_id": jobs[1], "who": "ann"}).json()["data"]
        assert [item["job_id"] for item in only] == [jobs[1]]
        assert client.get("/v1/labels", params={"after": "x"}).status_code == 400


def test_labels_of_unknown_jobs_are_named_and_the_others_taken(alone: Gateway, jobs: list[str]):
    unknown = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
    with alone.client() as client:
        told = client.post("/v1/labels", json={"labels": [label(unknown), label(jobs[0])]}).json()
    assert (told["new"], [item["index"] for item in told["refused"]]) == (1, [0])
    assert "has no job" in told["refused"][0]["reason"]


def test_a_label_is_the_key_s_holder_s_where_it_names_nobody(alone: Gateway, jobs: list[str]):
    token, kept = new_key("default", "bea", all_scopes())
    alone.services.ledger.of(ApiKeys).add(kept)
    nameless, row = new_key("default", " ", all_scopes())
    alone.services.ledger.of(ApiKeys).add(row)
    without = label(jobs[0])
    without.pop("who")
    for key in (token, nameless):
        with alone.client(key.text) as client:
            assert client.post("/v1/labels", json={"labels": [without]}).json()["new"] == 1
    with alone.client() as client:
        assert {entry["who"] for entry in client.get("/v1/labels").json()["data"]} == {"bea", row.id}
    with served(alone.settings, open_to="default") as opened, opened.client() as visitor:
        told = visitor.post("/v1/labels", json={"labels": [without]})
        assert (told.status_code, told.json()["param"]) == (400, "labels[0].who")


def test_labels_are_deleted_of_one_criterion_alone(alone: Gateway, jobs: list[str]):
    with alone.client() as client:
        sent = [label(jobs[0]), label(jobs[1]), label(jobs[0], criterion="polite")]
        client.post("/v1/labels", json={"labels": sent})
        for wrong in ({}, {"criterion": "a", "category": "b"}):
            assert client.delete("/v1/labels", params=wrong).status_code == 400
        assert client.delete("/v1/labels", params={"criterion": "right", "job_id": jobs[0]}).json()["deleted"] == 1
        assert client.delete("/v1/labels", params={"criterion": "right"}).json()["deleted"] == 1
        (kept,) = client.get("/v1/labels").json()["data"]
        assert kept["criterion"] == "polite"
    with alone.client(alone.key("default", REVIEWS_READ)) as reader:
        told = reader.delete("/v1/labels", params={"criterion": "polite"})
        assert (told.status_code, "reviews:write" in told.json()["detail"]) == (403, True)


def test_a_receiver_of_label_studio_s_webhook_sends_labels(alone: Gateway, jobs: list[str]):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "label-studio.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(compile(block, "docs/how-to/label-studio.md", "exec"), receiver)
    result = {"from_name": "good", "to_name": "answer", "type": "choices", "value": {"choices": ["yes"]}}
    body = {
        "action": "ANNOTATION_CREATED",
        "task": {"id": 1, "data": {"job_id": jobs[0], "probability": 0.5, "answer": "b"}},
        "annotation": {"id": 7, "created_at": WHEN, "completed_by": 10, "result": [result]},
    }
    for _ in range(2):
        receiver["send"](body, alone.key(), alone.url)
    with alone.client() as client:
        (found,) = client.get("/v1/labels").json()["data"]
    assert (found["who"], found["label"], found["probability"]) == ("10", True, 0.5)


@pytest.mark.parametrize(
    "labels",
    [
        [], [{}], [{"label": True}], "x", 7, [label("x")], [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", score=2.0)],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", colour="red")],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", label="yes")],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", when="yesterday")],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", probability=1e308)],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", who="a\x00")],
        [label("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00")] * 501,
    ],
)  # fmt: skip
def test_malformed_labels_are_refused(gateway: Gateway, labels: object):
    with gateway.client() as client:
        told = client.post("/v1/labels", json={"labels": labels})
    assert (told.status_code, told.headers["content-type"]) == (400, "application/problem+json"), told.text


def test_labels_of_another_tenant_are_not_there(alone: Gateway, jobs: list[str]):
    with alone.client() as client, alone.client(alone.key("stranger")) as stranger:
        client.post("/v1/labels", json={"labels": [label(jobs[0])]})
        (mine,) = client.get("/v1/labels").json()["data"]
        assert stranger.get("/v1/labels").json()["data"] == []
        assert stranger.get("/v1/labels", params={"after": mine["id"]}).status_code == 400
        assert stranger.delete("/v1/labels", params={"criterion": "right"}).json()["deleted"] == 0
        assert len(stranger.post("/v1/labels", json={"labels": [label(jobs[0])]}).json()["refused"]) == 1
        assert stranger.post("/v1/labels", json={"labels": [label(jobs[0], tenant="default")]}).status_code == 403
