"""The page *Set aside* without a browser: who sees what, what a plan does, and that it is done once."""

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from tests.services.eventually import eventually
from tests.workers.features.console.aside_rows import bury, hold, refuse
from tests.workers.http.served import Gateway
from tests.workers.http.test_console import PAYLOAD, browser

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, OPERATOR, usual_scopes
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE


def planned(client: httpx.Client, act: str, **conditions: str) -> str:
    told = client.post("aside/plan", data={"act": act, **conditions})
    assert told.status_code == 303, told.text
    return str(told.headers["location"]).removeprefix("../")


def done(client: httpx.Client, path: str) -> tuple[int, int]:
    """How many a plan did and skipped, once it has ended."""
    eventually(lambda: "<h2>Done</h2>" in client.get(path).text)
    page = client.get(path).text
    one, two = (re.search(f'id="{name}">([0-9,]+)<', page) for name in ("done", "skipped"))
    assert one is not None
    assert two is not None
    return int(one[1]), int(two[1])


def states(ledger: Ledger) -> dict[str, str]:
    return dict(tuple(row) for row in ledger.read(select(STEPS.c.job_id, STEPS.c.state)))


def test_many_held_jobs_are_released_after_a_preview_and_only_once(alone: Gateway):
    rung: list[str] = []
    alone.services.ring = lambda: rung.append("")
    ledger = alone.services.ledger
    jobs = [hold(ledger, stage="screen") for _ in range(3)]
    other = hold(ledger, stage="moderate")
    with browser(alone) as client:
        path = planned(client, "release", stage="screen")
        page = client.get(path).text
        assert "Release 3 held jobs" in page
        assert [job_id in page for job_id in (*jobs, other)] == [True, True, True, False]
        assert set(states(ledger).values()) == {"held"}
        ledger.release_held([jobs[0]])
        for _ in range(2):
            assert client.post(f"{path}do").headers["location"] == f"../../{path}"
        assert done(client, path) == (2, 1)
        assert "decided by somebody else" in client.get(path).text
        with writing(ledger.engine) as tx:  # they are held anew
            tx.execute(update(STEPS).values(state="held", held_at=ledger.now()))
        assert client.post(f"{path}do").status_code == 303
        assert done(client, path) == (2, 1)
    assert set(states(ledger).values()) == {"held"}
    assert rung


def test_withholding_asks_for_a_reason(alone: Gateway):
    job_id = hold(alone.services.ledger)
    with browser(alone) as client:
        path = planned(client, "withhold", reason="REVIEW")
        told = client.post(f"{path}do", data={"reason": " \x00 "})
        assert (told.status_code, "reason: is empty" in told.text) == (400, True)
        client.post(f"{path}do", data={"reason": "names a customer"})
        assert done(client, path) == (1, 0)
    (row,) = alone.services.ledger.read(select(STEPS.c.reason).where(STEPS.c.job_id == job_id))
    assert row.reason == "withheld: names a customer"


def test_dead_letters_are_replayed_by_an_operator(alone: Gateway):
    ledger = alone.services.ledger
    bury(ledger, category="transient")
    bury(ledger, category="transient", tenant="acme")
    cut = refuse(ledger, category="transient", truncated=True)
    with browser(alone) as client:
        page = client.get("aside/?kind=dead&category=transient").text
        assert "3 dead" in page
        assert f'<span class="id">{cut}</span>' in page
        path = planned(client, "replay", category="transient")
        client.post(f"{path}do")
        assert done(client, path) == (2, 0)
        assert "the ledger’s copy is cut</dt><dd>1<" in client.get(path).text
        assert "1 dead" in client.get("aside/?kind=dead").text
    assert {row.state for row in ledger.read(select(JOBS.c.state))} == {"active"}


def test_an_empty_filter_is_refused(alone: Gateway):
    hold(alone.services.ledger)
    with browser(alone) as client, browser(alone, key=alone.key("default", *usual_scopes())) as own:
        for item, given in ((client, {}), (client, {"stage": " \x00 "}), (own, {}), (own, {"tenant": "default"})):
            told = item.post("aside/plan", data={"act": "release", **given})
            assert (told.status_code, "the filter is empty" in told.text) == (400, True)
        assert "Set a filter first" in own.get("aside/").text
        assert client.post("aside/plan", data={"stage": "moderate"}).status_code == 400
        assert client.post("aside/plan", data={"act": "release", "stage": "nothing"}).status_code == 409
        planned(client, "release", tenant="default")  # of all tenants this one
    assert set(states(alone.services.ledger).values()) == {"held"}


def test_another_tenants_rows_and_another_persons_plans_are_not_found(alone: Gateway):
    ledger, scopes = alone.services.ledger, usual_scopes()
    own, foreign, letter = hold(ledger), hold(ledger, tenant="other"), bury(ledger, tenant="other")
    key = alone.key("default", *scopes)
    with (
        browser(alone, key=key) as ada,
        browser(alone, key=key, name="Bob") as bob,
        browser(alone, key=alone.key("other", *scopes)) as other,
        browser(alone) as operator,
    ):
        assert [own in ada.get(f"aside/{end}").text for end in ("", "?tenant=other")] == [True, True]
        assert [foreign in client.get("aside/").text for client in (ada, operator)] == [False, True]
        assert [letter in client.get("aside/?kind=dead").text for client in (ada, operator)] == [False, False]
        path = planned(ada, "release", stage="moderate", tenant="other")
        for stranger in (bob, other, operator):
            asked = [stranger.get(path), stranger.get(f"{path}part"), stranger.post(f"{path}do")]
            assert [told.status_code for told in asked] == [404] * 3
        assert [ada.get(f"aside/{name}/").status_code for name in ("x", "%00", "0" * 36)] == [404] * 3
        ada.post(f"{path}do")
        assert done(ada, path) == (1, 0)
    assert states(ledger)[foreign] == "held"


def test_scopes_are_those_of_http_and_the_commands(alone: Gateway):
    hold(alone.services.ledger)
    bury(alone.services.ledger)
    acts = {"release": {"stage": "moderate"}, "withhold": {"stage": "moderate"}, "cancel": {"stage": "moderate"},
            "replay": {"stage": "generate"}}  # fmt: skip
    allowed: dict[tuple[Any, ...], list[str]] = {
        (JOBS_READ,): [],
        (JOBS_WRITE,): [],  # it may cancel, but not see what is held
        (JOBS_READ, REVIEWS_READ): [],
        (JOBS_READ, REVIEWS_WRITE): ["release", "withhold"],
        (JOBS_WRITE, REVIEWS_READ): ["cancel"],
        (JOBS_READ, OPERATOR): ["replay"],
    }
    for scopes, may in allowed.items():
        with browser(alone, key=alone.key("default", *scopes)) as client:
            asked = {act: client.post("aside/plan", data={"act": act, **given}) for act, given in acts.items()}
            assert [act for act, told in asked.items() if told.status_code == 303] == may
            assert {told.status_code for act, told in asked.items() if act not in may} <= {403}
            page = client.get("aside/?stage=moderate") if REVIEWS_READ in scopes else client.get("aside/")
            assert page.status_code == 200
            assert ("Held steps" in page.text) == bool({REVIEWS_READ, REVIEWS_WRITE} & set(scopes))
            assert client.get("aside/?kind=held").status_code == (200 if "Held steps" in page.text else 403)


def test_texts_of_what_is_set_aside_are_never_markup(alone: Gateway):
    ledger = alone.services.ledger
    hold(ledger, application=PAYLOAD, reason=PAYLOAD, stage=PAYLOAD[:32], queue=f"model.{PAYLOAD}")
    bury(ledger, application=PAYLOAD, reason=PAYLOAD, queue=f"model.{PAYLOAD}")
    refuse(ledger, tenant=PAYLOAD[:64], reason=PAYLOAD, refers_to=PAYLOAD[:36])
    with browser(alone, name=PAYLOAD) as client:
        path = planned(client, "release", reason=PAYLOAD, application=PAYLOAD)
        pages = [
            client.get("aside/"), client.get("aside/?kind=dead"), client.get(path),
            client.get("aside/", params=dict.fromkeys(("stage", "model", "reason", "application", "tenant"), PAYLOAD)),
            client.get("aside/", params={"kind": PAYLOAD, "age": PAYLOAD, "category": PAYLOAD, "after": PAYLOAD}),
        ]  # fmt: skip
    for page in pages:
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "<img src=x" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text


def test_a_list_says_what_is_where_it_is_empty_and_goes_on_by_pages(alone: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headrace_workers.features.console.aside_lists.PAGE", 2)
    with browser(alone) as client:
        assert "Nothing is held." in client.get("aside/").text
        assert "No dead letter waits." in client.get("aside/?kind=dead").text
        made = [hold(alone.services.ledger, ago) for ago in (5_000, 4_000, 3_000)]
        assert "Nothing fits this filter" in client.get("aside/?stage=x").text
        first = client.get("aside/?age=under-1d").text
        (more,) = re.findall(r'href="\./(\?[^"]*after=[^"]*)"', first)
        assert '<h2 id="list-title">3 held' in first
        second = client.get(f"aside/{more.replace('&amp;', '&')}").text
    assert [[job_id in page for job_id in made] for page in (first, second)] == [
        [True, True, False],
        [False, False, True],
    ]
