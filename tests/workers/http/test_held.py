import json

import pytest
from sqlalchemy import select, update
from tests.workers.http.served import Gateway
from tests.workers.http.test_console import browser
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, REVIEWS_TEXTS
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import NEVER, STEPS
from headrace_workers.features.generation.openai.response_body import response_id
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE

REASON = "does it name a customer?"


@pytest.fixture
def held(alone: Gateway) -> list[str]:
    """Three jobs of the tenant `default` that are held, the longest first, and one that is not."""
    jobs = take_in(alone.services.ledger, [evaluation(input=f"{n}") for n in range(4)])
    with writing(alone.services.ledger.engine) as tx:
        for n, job in enumerate(jobs[:3]):
            values = {"state": "held", "held_at": 1_000 * (n + 1), "ready_at": NEVER, "reason": REASON}
            tx.execute(update(STEPS).where(STEPS.c.job_id == job).values(**values))
    return jobs


def states(gateway: Gateway) -> dict[str, str]:
    return {row.job_id: row.state for row in gateway.services.ledger.read(select(STEPS.c.job_id, STEPS.c.state))}


def test_held_jobs_are_listed_by_pages(alone: Gateway, held: list[str]):
    with alone.client() as client:
        first = client.get("/v1/held", params={"limit": 2}).json()
        assert [job["job_id"] for job in first["data"]] == held[:2]
        assert (first["has_more"], first["last_id"]) == (True, held[1])
        rest = client.get("/v1/held", params={"after": held[1]}).json()
        assert ([job["job_id"] for job in rest["data"]], rest["has_more"]) == ([held[2]], False)
        assert rest["data"][0]["reason"] == REASON
        gone = client.get("/v1/held", params={"after": held[3]})
        assert (gone.status_code, "begin at the first page" in gone.json()["detail"]) == (400, True)


def test_the_text_needs_a_scope_of_its_own(alone: Gateway, held: list[str]):
    with alone.client(alone.key("default", REVIEWS_READ, REVIEWS_WRITE)) as reviewer:
        assert "text" not in reviewer.get("/v1/held").json()["data"][0]
        told = reviewer.get(f"/v1/held/{held[0]}")
        assert (told.status_code, "reviews:texts" in told.json()["detail"]) == (403, True)
    with alone.client(alone.key("default", REVIEWS_TEXTS)) as reader:
        shown = reader.get(f"/v1/held/{held[0]}").json()
        assert (shown["asked"], shown["text"]) == ("0", "b")
        assert reader.get(f"/v1/held/{held[3]}").status_code == 404


def test_no_door_shows_the_texts_of_a_held_job_to_a_key_without_the_scope(alone: Gateway):
    ledger, said = alone.services.ledger, "Kingfisher"
    (job,) = take_in(ledger, [generation(prompt=said)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == job).values(state="held", held_at=1, ready_at=NEVER))
    body = json.dumps({"model": "echo", "input": said, "instructions": said}).encode()
    ledger.of(Responses).keep("default", job, body)
    pages = [f"playground/{job}/", f"playground/{job}/part", f"playground/?again={job}", f"jobs/{job}/"]
    for scopes, is_shown in (((JOBS_READ, JOBS_WRITE), False), ((JOBS_READ, JOBS_WRITE, REVIEWS_TEXTS), True)):
        key = alone.key("default", *scopes)
        with alone.client(key) as api, browser(alone, key=key) as console:
            assert said not in api.get(f"/v1/jobs/{job}").text
            items = api.get(f"/v1/responses/{response_id(job)}/input_items")
            assert (items.status_code, said in items.text) == ((200, True) if is_shown else (403, False))
            response = api.get(f"/v1/responses/{response_id(job)}")
            assert (response.status_code, said in response.text) == (200, is_shown)
            assert [said in console.get(page).text for page in pages] == [is_shown] * len(pages)


def test_a_decision_is_made_once(alone: Gateway, held: list[str]):
    rung: list[str] = []
    alone.services.ring = lambda: rung.append("")
    with alone.client() as client:
        told = client.post(f"/v1/held/{held[0]}/release")
        assert (told.status_code, told.json()["decision"], len(rung)) == (200, "released", 1)
        again = client.post(f"/v1/held/{held[0]}/release")
        assert (again.status_code, "the job is not held" in again.json()["detail"], len(rung)) == (409, True, 1)
        told = client.post(f"/v1/held/{held[1]}/withhold", json={"reason": "it does"})
        assert (told.status_code, told.json()["decision"]) == (200, "withheld")
        assert client.post(f"/v1/held/{held[2]}/withhold", json={"reason": " "}).status_code == 400
        assert client.post(f"/v1/held/{held[2]}/withhold", json={"reason": "x", "who": "y"}).status_code == 400
    assert {letter.reason for letter in alone.services.ledger.dead(DeadFilter())} == {"withheld: it does"}
    assert [states(alone)[job] for job in held] == ["ready", "dead", "held", "ready"]


def test_only_a_key_that_may_decide_does(alone: Gateway, held: list[str]):
    with alone.client(alone.key("default", REVIEWS_READ, REVIEWS_TEXTS, JOBS_WRITE)) as reader:
        for path, body in (("release", None), ("withhold", {"reason": "x"})):
            told = reader.post(f"/v1/held/{held[0]}/{path}", json=body)
            assert (told.status_code, "reviews:write" in told.json()["detail"]) == (403, True)
    assert states(alone)[held[0]] == "held"
