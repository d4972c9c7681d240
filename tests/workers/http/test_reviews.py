import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import insert, select
from tests.workers.changed_settings import changed
from tests.workers.features.reviews.review_rows import FOUND, SAID, ended, held
from tests.workers.http.served import Gateway, served

from headrace_workers.core.scopes import REVIEWS_TEXTS, Scope, all_scopes
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.access import keyring
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.features.reviews.tables import REVIEW_DECISIONS, REVIEW_ITEMS

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
        assert [each["name"] for each in shown["asks"]["criteria"]] == ["good"]
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


def test_a_skipped_item_goes_to_others_and_an_undone_decision_comes_back(alone: Gateway):
    _, item_id = ended(alone.services.ledger)
    path = f"/v1/reviews/items/{item_id}"
    with signed_in(alone) as ann, signed_in(alone, "bob") as bob:
        assert ann.post(f"{path}/skip", json={"lease": given(ann)["lease"]}).json()["state"] == "open"
        assert given(ann) is None
        bob.post(f"{path}/decision", json={**GOOD, "lease": given(bob)["lease"]})
        (mine,) = bob.get("/v1/reviews/mine").json()["data"]
        assert mine["decision"]["labels"] == [{"criterion": "good", "category": None, "value": 1.0}]
        no = {"labels": [{"criterion": "good", "value": 0}], "revision": 2}
        assert bob.post(f"{path}/decision", json=no).json()["decision"]["revision"] == 2
        undone = bob.post(f"{path}/undo").json()
        assert (undone["state"], undone["decision"]["action"]) == ("open", "undo")
        assert bob.get("/v1/labels").json()["data"] == []


def test_progress_is_that_of_the_tenant(alone: Gateway):
    ended(alone.services.ledger, made_at=alone.services.ledger.now())
    with signed_in(alone) as ann, signed_in(alone, "eve", tenant="b") as eve:
        assert [each["rule"] for each in ann.get("/v1/reviews/stats").json()["rules"]] == ["audit"]
        assert eve.get("/v1/reviews/stats").json()["rules"] == []


def test_more_people_are_wanted_afterwards(alone: Gateway):
    _, item_id = ended(alone.services.ledger)
    with signed_in(alone) as ann, signed_in(alone, "bob") as bob:
        ann.post(f"/v1/reviews/items/{item_id}/decision", json={**GOOD, "lease": given(ann)["lease"]})
        assert given(bob) is None
        assert ann.patch(f"/v1/reviews/items/{item_id}", json={"wanted": 2}).json()["state"] == "open"
        assert given(bob)["id"] == item_id


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
        statuses = [each.post("/v1/reviews/items", json=asked).status_code for each in (reads, eve)]
        assert statuses == [403, 404]
        assert ann.post("/v1/reviews/items", json={"job_id": active}).status_code == 409
        told = [ann.post("/v1/reviews/items", json=asked) for _ in range(2)]
        assert [each.status_code for each in told] == [201, 201]
        (item_id,) = {each.json()["id"] for each in told} - {drawn}
        assert given(ann, rule="manual")["id"] == item_id


def test_a_decision_whose_gateway_was_killed_is_made_once(alone: Gateway):
    """The first gateway decided, and nobody got its answer; the same request to another is answered the same."""
    _, item_id = ended(alone.services.ledger)
    key = key_of(alone)
    path = f"/v1/reviews/items/{item_id}/decision"
    with alone.client(key) as first, served(alone.settings) as other, other.client(key) as second:
        sent = {**GOOD, "lease": given(first)["lease"]}
        told = first.post(path, json=sent)
        again = second.post(path, json=sent)
        assert (told.status_code, again.status_code) == (200, 200)
        assert again.json() == told.json()
    assert len(alone.services.ledger.read(select(REVIEW_DECISIONS.c.number))) == 1


def test_decisions_work_without_redis(alone: Gateway):
    job_id, item_id = held(alone.services.ledger)
    with served(changed(alone.settings, redis="redis://127.0.0.1:1/0")) as gateway, signed_in(gateway) as ann:
        told = ann.post(
            f"/v1/reviews/items/{item_id}/decision", json={"action": "release", "lease": given(ann)["lease"]}
        )
        assert told.status_code == 200
    assert alone.services.ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == job_id)) == [("ready",)]


def test_a_key_that_was_revoked_decides_nothing(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keyring, "KEPT_SECONDS", 0.0)
    _, item_id = ended(alone.services.ledger)
    key = key_of(alone)
    with alone.client(key) as ann:
        lease = given(ann)["lease"]
        alone.services.ledger.of(ApiKeys).revoke(key.split("_")[1])
        assert ann.post(f"/v1/reviews/items/{item_id}/decision", json={**GOOD, "lease": lease}).status_code == 401


def test_items_are_listed_by_pages(alone: Gateway):
    ledger = alone.services.ledger
    rows = [
        {"id": f"00000000-0000-5000-8000-{n:012d}", "tenant": "a", "job_id": f"{n}", "rule": f"rule{n % 2}",
         "ordinal": 0, "replays": 0, "rank": 2**61 + n, "probability": 0.5, "wanted": 1, "state": "open",
         "made_at": n // 7}
        for n in range(10_000)
    ]  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(insert(REVIEW_ITEMS), rows)
    with signed_in(alone) as ann:
        found: list[str] = []
        after: dict[str, str] = {}
        for _ in range(20):
            page = ann.get("/v1/reviews/items", params={"limit": 100, "rule": "rule1", **after}).json()
            found += [each["id"] for each in page["data"]]
            after = {"after": page["last_id"]}
        assert page["has_more"]
        assert found == [row["id"] for row in reversed(rows) if row["rule"] == "rule1"][:2_000]
        assert ann.get("/v1/reviews/items", params={"limit": 101}).status_code == 400
        assert ann.get("/v1/reviews/items", params={"after": "x"}).status_code == 400
        assert ann.get("/v1/reviews/mine", params={"after": found[0]}).status_code == 400
        assert ann.get("/v1/reviews/items", params={"state": "done"}).json()["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {}, {"labels": []}, {"labels": "x"}, {**GOOD, "colour": "red"}, {**GOOD, "action": "sing"},
        {"labels": [{"criterion": "good", "value": 2}]}, {"labels": [{"criterion": "good", "value": "yes"}]},
        {"labels": [{"criterion": "good", "value": 1, "x": 1}]}, {"labels": [{"value": 1}]},
        {**GOOD, "lease": -1}, {**GOOD, "lease": 2**63}, {**GOOD, "lease": "x"}, {**GOOD, "revision": 0},
        {**GOOD, "revision": 10**9}, {**GOOD, "note": "x" * 10_000}, {**GOOD, "note": "\x00"},
        {"action": "correct"}, {"action": "correct", "corrected": ""}, {"action": "release", "recall": True},
        {"labels": [{"criterion": f"c{n}", "value": 1} for n in range(100_000)]},
    ],
)  # fmt: skip
def test_malformed_decisions_are_refused(gateway: Gateway, body: object):
    path = "/v1/reviews/items/7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00/decision"
    with gateway.client() as client:
        told = client.post(path, json=body)
    assert told.status_code in (400, 413), told.text
    assert told.headers["content-type"] == "application/problem+json"
    assert len(told.content) < 10_000


def test_a_body_of_ten_megabytes_is_refused(gateway: Gateway):
    with gateway.client() as client:
        told = client.post("/v1/reviews/next", content=b'{"rule": "' + b"x" * 10_000_000 + b'"}')
    assert told.status_code in (400, 413)
