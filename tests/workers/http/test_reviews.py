import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import select
from tests.workers.features.reviews.review_rows import FOUND, SAID, ended, held
from tests.workers.http.served import Gateway, served

from headrace_workers.core.scopes import REVIEWS_TEXTS, Scope, all_scopes
from headrace_workers.core.tables import STEPS
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE

GOOD = {"labels": [{"criterion": "good", "value": 1}]}


def key_of(gateway: Gateway, who: str = "ann", *scopes: Scope, tenant: str = "a") -> str:
    token, row = new_key(tenant, who, tuple(sorted(scopes or all_scopes())))
    gateway.services.ledger.of(ApiKeys).add(row)
    return token.text


@contextmanager
def signed_in(gateway: Gateway, who: str = "ann", *scopes: Scope, tenant: str = "a") -> Iterator[httpx.Client]:
    with gateway.client(key_of(gateway, who, *scopes, tenant=tenant)) as client:
        yield client


def given(client: httpx.Client, **asked: object) -> dict:
    told = client.post("/v1/reviews/next", json=asked)
    assert told.status_code == 200, told.text
    return told.json()["item"]


def test_an_ended_answer_is_shown_blind_until_it_is_labelled(alone: Gateway):
    _, item_id = ended(alone.services.ledger)
    with signed_in(alone) as ann:
        shown = given(ann)
        assert (shown["id"], shown["answer"], shown["messages"][0]["content"]) == (item_id, SAID, "How do I reach you?")
        assert [criterion["name"] for criterion in shown["asks"]["criteria"]] == ["good"]
        hidden = ("verdict", "rule", "probability", "mine")
        assert ([shown[name] for name in hidden], shown["scores"]) == ([None] * 4, [])
        decided = ann.post(f"/v1/reviews/items/{item_id}/decision", json={**GOOD, "lease": shown["lease"]}).json()
        assert (decided["state"], decided["rule"], decided["decision"]["who"]) == ("done", "audit", "ann")
        after = ann.get(f"/v1/reviews/items/{item_id}").json()
        assert (after["scores"][0]["value"], after["verdict"]["action"], after["rule"]) == (0.3, "allow", "audit")
        (label,) = ann.get("/v1/labels").json()["data"]
        assert (label["item"], label["who"], label["probability"]) == (item_id, "ann", 0.25)
        assert given(ann) is None


def test_a_held_job_is_shown_with_its_verdict_and_released(alone: Gateway):
    rung: list[str] = []
    alone.services.ring = lambda: rung.append("")
    known = {"verdict": json.loads(FOUND.model_dump_json()), "said": SAID}
    job_id, item_id = held(alone.services.ledger, known=known)
    with signed_in(alone) as ann:
        shown = given(ann)
        assert (shown["held"], shown["rule"], shown["held_for"]) == (True, "held", "why")
        (finding,) = shown["verdict"]["findings"]
        assert shown["verdict_text"][finding["start"] : finding["end"]] == "jo@headrace.io"
        path = f"/v1/reviews/items/{item_id}/decision"
        sent = {"action": "release", "lease": shown["lease"]}
        assert ann.post(path, json=sent).json()["state"] == "done"
        assert len(rung) == 1
        again = ann.post(path, json=sent)
        assert (again.status_code, again.json()["decision"]["action"]) == (200, "release")
        told = ann.post(path, json={"action": "withhold", "lease": shown["lease"], "revision": 2})
        assert (told.status_code, told.headers["content-type"]) == (409, "application/problem+json")
    assert alone.services.ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == job_id)) == [("ready",)]


def test_a_key_without_the_scope_for_texts_is_given_no_held_job(alone: Gateway):
    _, item_id = held(alone.services.ledger)
    with signed_in(alone, "ann", REVIEWS_WRITE) as ann:
        assert given(ann) is None
        (listed,) = ann.get("/v1/reviews/items").json()["data"]
        assert listed["id"] == item_id
        assert "answer" not in listed
        told = ann.get(f"/v1/reviews/items/{item_id}")
        assert (told.status_code, "reviews:texts" in told.json()["detail"]) == (403, True)
    with signed_in(alone, "eve", REVIEWS_WRITE, REVIEWS_TEXTS) as eve:
        assert given(eve)["answer"] == SAID


def test_only_a_key_that_may_decide_does(alone: Gateway):
    _, item_id = ended(alone.services.ledger)
    with signed_in(alone, "ann", REVIEWS_READ, REVIEWS_TEXTS) as ann:
        asked = [
            ann.post("/v1/reviews/next"),
            *(ann.post(f"/v1/reviews/items/{item_id}/{what}", json={}) for what in ("decision", "skip", "undo")),
            ann.patch(f"/v1/reviews/items/{item_id}", json={"wanted": 2}),
        ]
        assert {told.status_code for told in asked} == {403}
        assert all("reviews:write" in told.json()["detail"] for told in asked)
        assert ann.get(f"/v1/reviews/items/{item_id}").status_code == 200


def test_a_person_is_who_their_key_says(alone: Gateway):
    ended(alone.services.ledger)
    with signed_in(alone) as ann:
        told = ann.post("/v1/reviews/next", json={"who": "eve"})
        assert (told.status_code, told.json()["param"]) == (403, "who")
        assert given(ann, who="ann")["lease"]


def test_without_keys_a_person_says_who_they_are(alone: Gateway):
    _, item_id = ended(alone.services.ledger)
    with served(alone.settings, open_to="a") as opened, opened.client() as visitor:
        told = visitor.post("/v1/reviews/next")
        assert (told.status_code, told.json()["param"]) == (400, "who")
        lease = given(visitor, who="ann")["lease"]
        path = f"/v1/reviews/items/{item_id}/decision"
        sent = {**GOOD, "lease": lease, "who": "ann"}
        assert [visitor.post(path, json=sent).json()["decision"]["who"] for _ in range(2)] == ["ann", "ann"]
        assert visitor.get("/v1/reviews/mine").status_code == 400
        assert len(visitor.get("/v1/reviews/mine", params={"who": "ann"}).json()["data"]) == 1
        assert visitor.get(f"/v1/reviews/items/{item_id}").json()["mine"] is None


def test_progress_is_that_of_the_tenant(alone: Gateway):
    ended(alone.services.ledger, made_at=alone.services.ledger.now())
    with signed_in(alone) as ann, signed_in(alone, "eve", tenant="b") as eve:
        assert [rule["rule"] for rule in ann.get("/v1/reviews/stats").json()["rules"]] == ["audit"]
        assert eve.get("/v1/reviews/stats").json()["rules"] == []


def test_an_answer_is_sent_to_people_once_by_the_tenant_whose_it_is(alone: Gateway):
    ledger = alone.services.ledger
    job_id, drawn = ended(ledger, state="done")
    active, _ = held(ledger)
    with (
        signed_in(alone) as ann,
        signed_in(alone, "bob", REVIEWS_READ) as reads,
        signed_in(alone, "eve", tenant="b") as eve,
    ):
        asked = {"job_id": job_id}
        statuses = [client.post("/v1/reviews/items", json=asked).status_code for client in (reads, eve)]
        assert statuses == [403, 404]
        assert ann.post("/v1/reviews/items", json={"job_id": active}).status_code == 409
        told = [ann.post("/v1/reviews/items", json=asked) for _ in range(2)]
        assert [response.status_code for response in told] == [201, 201]
        (item_id,) = {response.json()["id"] for response in told} - {drawn}
        assert given(ann, rule="manual")["id"] == item_id


@pytest.mark.parametrize("body", [{}, {**GOOD, "colour": "red"}, {**GOOD, "lease": 2**63}, {**GOOD, "note": "\x00"}])
def test_malformed_decisions_are_refused(gateway: Gateway, body: object):
    path = "/v1/reviews/items/7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00/decision"
    with gateway.client() as client:
        told = client.post(path, json=body)
    assert told.status_code in (400, 413), told.text
    assert told.headers["content-type"] == "application/problem+json"
    assert len(told.content) < 10_000
