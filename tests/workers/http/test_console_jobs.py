"""The pages *Jobs* without a browser: who sees which job, what is done about it, and that it is done once."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.workers.http.served import Gateway, answer
from tests.workers.http.test_console import PAYLOAD, browser
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import job_burial
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, OPERATOR, usual_scopes
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.cache.store.answers import Answers


def links(page: str) -> list[str]:
    return re.findall(r'<a href="([0-9a-f-]{36})/"', page)


def state_of(gateway: Gateway, job_id: str) -> tuple[str, int]:
    """The state of a job, and how often it was replayed."""
    (row,) = gateway.services.ledger.read(select(JOBS.c.state, JOBS.c.replays).where(JOBS.c.id == job_id))
    return row.state, row.replays


@pytest.mark.parametrize("name", ["id", "idempotency_key", "correlationid", "derived"])
def test_a_job_is_found_by_any_of_its_names(alone: Gateway, bridge: Callable[[], Any], name: str):
    with bridge(), alone.client() as api:
        told = api.post("/v1/jobs", json={"model": "echo", "prompt": "x", "idempotency_key": "order-7"}).json()
    names = {"id": told["id"], "idempotency_key": "order-7", "correlationid": "order-7", "derived": f" {told['id']} "}
    with browser(alone) as client, browser(alone, key=alone.key("other", *usual_scopes())) as other:
        response = client.get("jobs/", params={"name": names[name]})
        assert (response.status_code, response.headers["location"]) == (303, f"../jobs/{told['id']}/")
        assert client.get(f"jobs/{told['id']}/").status_code == 200
        assert other.get("jobs/", params={"name": names[name]}).status_code == 404


def test_jobs_of_other_tenants_are_for_operators(alone: Gateway):
    ledger = alone.services.ledger
    (own,) = take_in(ledger, [generation(prompt="own")])
    (foreign,) = take_in(ledger, [generation(prompt="foreign", tenant="other")])
    answer(ledger, foreign)
    with (
        browser(alone, key=alone.key("default", *usual_scopes())) as client,
        browser(alone, key=alone.key("default", JOBS_READ, OPERATOR)) as operator,
    ):
        assert links(client.get("jobs/").text) == [own]
        assert links(client.get("jobs/?tenant=other").text) == [own]  # the filter is no way around
        for page in ("", "part"):
            assert client.get(f"jobs/{foreign}/{page}").status_code == 404
            assert operator.get(f"jobs/{foreign}/{page}").status_code == 200
        assert client.get("jobs/", params={"name": foreign}).status_code == 404
        for action in ("cancel", "wrong"):
            assert client.post(f"jobs/{foreign}/{action}").status_code == 404
        assert links(operator.get("jobs/").text) == [own, foreign]
        assert links(operator.get("jobs/?tenant=other").text) == [foreign]
        assert operator.post(f"jobs/{foreign}/cancel").status_code == 403  # it may look, and no more


def test_a_job_that_runs_for_more_than_a_minute_is_looked_at_less_often(alone: Gateway):
    (job_id,) = take_in(alone.services.ledger, [generation()])
    with browser(alone) as client:
        for later, trigger in ((3_600_000, "every 1s"), (-61_000, "every 5s")):
            with writing(alone.services.ledger.engine) as tx:
                tx.execute(update(JOBS).values(accepted_at=alone.services.ledger.now() + later))
            for page in (f"jobs/{job_id}/", f"jobs/{job_id}/part", f"playground/{job_id}/part"):
                assert f'hx-trigger="{trigger}"' in client.get(page).text, page


def test_who_may_only_read_has_no_actions(alone: Gateway):
    (job_id,) = take_in(alone.services.ledger, [generation()])
    with browser(alone, key=alone.key("default", JOBS_READ)) as client:
        assert "<form" not in client.get(f"jobs/{job_id}/part").text
        assert [client.post(f"jobs/{job_id}/{name}").status_code for name in ("cancel", "replay", "wrong")] == [403] * 3


def test_a_job_is_cancelled_once_however_often_the_form_is_sent(alone: Gateway):
    ledger = alone.services.ledger
    first, second = take_in(ledger, [generation(prompt="a"), generation(prompt="b")])
    answer(ledger, second)
    with browser(alone) as client:
        for job_id in (first, first, second):
            assert client.post(f"jobs/{job_id}/cancel").headers["location"] == f"../../jobs/{job_id}/"
        page = client.get(f"jobs/{first}/").text
    assert (state_of(alone, first), state_of(alone, second)) == (("cancelled", 0), ("done", 0))
    assert "cancelled in the console by Ada" in page


def test_a_dead_letter_is_replayed_once_by_an_operator(alone: Gateway):
    ledger = alone.services.ledger
    (job_id,) = take_in(ledger, [generation()])
    die(ledger, job_id)
    with browser(alone, key=alone.key("default", JOBS_WRITE)) as client:
        page = client.get(f"jobs/{job_id}/").text
        assert "An operator can replay it: <code>headrace dead replay" in page
        assert client.post(f"jobs/{job_id}/replay").status_code == 403
    with browser(alone, key=alone.key("default", JOBS_READ, OPERATOR)) as client:
        (letter,) = re.findall(r'name="letter" value="([^"]+)"', client.get(f"jobs/{job_id}/").text)
        for _ in range(2):
            assert client.post(f"jobs/{job_id}/replay", data={"letter": letter}).status_code == 303
        assert state_of(alone, job_id) == ("active", 1)
        die(ledger, job_id)
        client.post(f"jobs/{job_id}/replay", data={"letter": letter})  # the form of before does nothing more
        assert state_of(alone, job_id) == ("dead", 1)
        assert client.post(f"jobs/{job_id}/replay", data={"letter": "x"}).status_code == 404


def die(ledger: Ledger, job_id: str) -> None:
    """End a job as its worker's last failure would, with a payload as the reason."""
    claim = claim_one(ledger)
    assert claim is not None
    begun = ledger.start(claim.id, worker=PAYLOAD, lease_ms=60_000)
    assert begun is not None
    (row,) = begun.steps
    dead = Dead(Category.PERMANENT, PAYLOAD)
    result = StepResult(job_id, dead, burial=job_burial(row, "generate", dead))
    assert ledger.complete(claim.id, [result], ran_ms=1, quantum_ms=1)


def test_a_wrong_answer_is_withdrawn_with_its_reason(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    (job_id,) = take_in(alone.services.ledger, [generation()])
    answer(alone.services.ledger, job_id)
    recalled: list[Any] = []
    call = Answers.recall.__get__  # type: ignore[attr-defined]

    def noted(store: Answers, ids: Any, reason: str) -> Any:
        recalled.append(reason)
        return call(store, Answers)(ids, reason)

    monkeypatch.setattr(Answers, "recall", noted)
    with browser(alone) as client:
        told = client.post(f"jobs/{job_id}/wrong", data={"reason": " the old\r\n price "}, follow_redirects=True)
    assert recalled == ["wrong: the old price (Ada)"]
    assert "there was nothing to withdraw" in told.text


def test_texts_of_jobs_are_never_markup(alone: Gateway):
    ledger = alone.services.ledger
    (job_id,) = take_in(ledger, [generation(prompt=PAYLOAD)])
    with browser(alone, name=PAYLOAD) as client:
        first = client.get(f"jobs/{job_id}/")
        die(ledger, job_id)
        pages = [
            first, client.get(f"jobs/{job_id}/"), client.get(f"jobs/{job_id}/part"),
            client.get("jobs/", params={"name": PAYLOAD}),
            client.get("jobs/", params={"model": PAYLOAD, "application": PAYLOAD, "tenant": PAYLOAD}),
            client.get("jobs/", params={"state": PAYLOAD, "after": PAYLOAD}),
            client.get(f"jobs/{PAYLOAD.replace('/', '%2F').replace('?', '%3F')}/"),
        ]  # fmt: skip
    assert [page.status_code for page in pages] == [200, 200, 200, 404, 200, 200, 404]
    for page in pages:
        assert "<script>" not in page.text
        assert "<img src=x" not in page.text
    assert "&lt;script&gt;alert(1)" in pages[1].text
    assert "&lt;script&gt;alert(1)" in pages[3].text


def test_no_name_has_a_nul(gateway: Gateway):
    with browser(gateway) as client:
        assert client.get("jobs/?state=done&application=a@%00&model=%00&tenant=%00&after=1-%00").status_code == 200
        assert [client.get(place).status_code for place in ("jobs/%00/", "jobs/?name=%00")] == [404, 404]
