import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.services.eventually import eventually
from tests.workers.features.console.aside_rows import bury, hold, refuse
from tests.workers.features.console.test_situation import ledger
from tests.workers.ledger_in_short import ledger_url

from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, STEPS
from headrace_workers.features.console import plans
from headrace_workers.features.console.aside_lists import AsideFilter, AsideLists
from headrace_workers.features.console.plans import CONSOLE_PLANS, Act, Plan, PlanRuns, Plans
from headrace_workers.http.caller import Caller

__all__ = ["ledger", "ledger_url"]
ADA = Caller("default", frozenset(), "key", "Ada")


def make(ledger: Ledger, act: Act, owner: Caller = ADA) -> str:
    kind: Any = "dead" if act == "replay" else "held"
    items, more = ledger.of(AsideLists).places(AsideFilter(kind))
    return ledger.of(Plans).make(owner, act, {"kind": kind}, items, more=more, everywhere=False)


def find(ledger: Ledger, plan_id: str) -> Plan:
    plan = ledger.of(Plans).find(ADA, plan_id)
    assert plan is not None
    return plan


def states(ledger: Ledger) -> dict[str, str]:
    return dict(tuple(row) for row in ledger.read(select(STEPS.c.job_id, STEPS.c.state)))


def test_a_plan_is_begun_once_in_its_time_by_its_person(ledger: Ledger):
    hold(ledger)
    store, plan_id = ledger.of(Plans), make(ledger, "release")
    for other in (replace(ADA, tenant="acme"), replace(ADA, key_id="other"), replace(ADA, name="Bob")):
        assert store.find(other, plan_id) is None
        assert not store.begin(other, plan_id, "")
    assert [store.do_part(plan_id), store.begin(ADA, plan_id, ""), store.begin(ADA, plan_id, "")] == [0, True, False]
    late = make(ledger, "release")
    with writing(ledger.engine) as tx:
        tx.execute(update(CONSOLE_PLANS).where(CONSOLE_PLANS.c.id == late).values(expires_at=ledger.now() - 1))
    assert (find(ledger, late).expired, store.begin(ADA, late, "")) == (True, False)


@pytest.mark.parametrize("act", ["release", "withhold", "cancel"])
def test_held_jobs_are_done_once_in_parts_and_what_changed_meanwhile_is_left_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, act: Act
):
    monkeypatch.setattr(plans, "PART", 2)
    jobs = [hold(ledger, ago, tenant) for ago, tenant in ((9_000, "a"), (8_000, "b"), (7_000, "a"), (6_000, "a"))]
    plan_id, store = make(ledger, act), ledger.of(Plans)
    late = hold(ledger, 5_000)
    ledger.release_held([jobs[0]])
    with writing(ledger.engine) as tx:  # it was released, and is held anew
        tx.execute(update(STEPS).where(STEPS.c.job_id == jobs[2]).values(held_at=ledger.now()))
    store.begin(ADA, plan_id, "too rude")
    assert store.do_part(plan_id) == 2
    assert (find(ledger, plan_id).state, find(ledger, plan_id).place) == ("running", 2)
    assert [store.do_part(plan_id) for _ in range(3)] == [0, 0, 0]
    plan = find(ledger, plan_id)
    assert (plan.state, plan.place, plan.done, plan.cut) == ("done", 4, 2, 0)
    became = {"release": "ready", "withhold": "dead", "cancel": "cancelled"}[act]
    found = states(ledger)
    assert [found[job_id] for job_id in (*jobs, late)] == ["ready", became, "held", became, "held"]
    if act != "release":
        (row,) = ledger.read(select(JOBS.c.terminal).where(JOBS.c.id == jobs[1]))
        assert ("too rude" if act == "withhold" else "cancelled in the console by Ada").encode() in bytes(row.terminal)


def test_dead_letters_are_replayed_once_and_what_cannot_be_is_counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plans, "PART", 3)
    letters = [bury(ledger, ago) for ago in (9_000, 8_000, 7_000)]
    refuse(ledger)
    cut = refuse(ledger, truncated=True, size=MAX_VALUE_BYTES + 1)
    plan_id, store = make(ledger, "replay"), ledger.of(Plans)
    with writing(ledger.engine) as tx:
        tx.execute(update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == letters[0]).values(replayed_at=5))
    store.begin(ADA, plan_id, "")
    assert [store.do_part(plan_id) for _ in range(3)] == [2, 0, 0]
    plan = find(ledger, plan_id)
    assert (plan.state, plan.place, plan.done, plan.cut) == ("done", 5, 3, 1)
    assert len(ledger.outbox(9)) == 1
    assert sorted(row.replays for row in ledger.read(select(JOBS.c.replays))) == [0, 1, 1]
    (left,) = ledger.read(select(DEAD_LETTERS.c.id).where(DEAD_LETTERS.c.replayed_at.is_(None)))
    assert left.id == cut


def test_two_runs_of_one_plan_do_each_item_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plans, "PART", 1)
    for _ in range(20):
        bury(ledger)
    plan_id = make(ledger, "replay")
    ledger.of(Plans).begin(ADA, plan_id, "")
    runs = [PlanRuns(ledger.of(Plans)) for _ in range(2)]
    for run in (*runs, runs[0]):
        run.start(plan_id, lambda: None)
    eventually(lambda: find(ledger, plan_id).state == "done")
    for run in runs:
        run.close()
    assert find(ledger, plan_id).done == 20
    assert {row.replays for row in ledger.read(select(JOBS.c.replays))} == {1}


def test_what_a_killed_gateway_left_is_gone_on_with(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plans, "PART", 1)
    for _ in range(3):
        hold(ledger)
    plan_id, killed = make(ledger, "release"), threading.Event()
    ledger.of(Plans).begin(ADA, plan_id, "")

    def kill() -> None:
        killed.set()
        raise SystemError

    first, second = PlanRuns(ledger.of(Plans)), PlanRuns(ledger.of(Plans))
    first.start(plan_id, kill)
    assert killed.wait(60)
    first.close()
    plan = find(ledger, plan_id)
    assert (plan.state, plan.done, plan.size) == ("running", 1, 3)
    second.start(plan_id, lambda: None)
    eventually(lambda: find(ledger, plan_id).state == "done")
    second.close()
    assert find(ledger, plan_id).done == 3


def test_plans_that_nobody_begins_are_forgotten(ledger: Ledger):
    hold(ledger)
    first = make(ledger, "release")
    others = [make(ledger, "release") for _ in range(plans.MOST_PLANS - 1)]
    begun = make(ledger, "release", replace(ADA, name="Bob"))
    ledger.of(Plans).begin(ADA, others[0], "")
    newest = [make(ledger, "release") for _ in range(2)]
    kept = {row.id for row in ledger.read(select(CONSOLE_PLANS.c.id))}
    assert kept == {*others, *newest, begun}
    assert first not in kept
    with writing(ledger.engine) as tx:
        tx.execute(update(CONSOLE_PLANS).values(expires_at=ledger.now() - plans.KEPT_MS))
    last = make(ledger, "release")
    assert [row.id for row in ledger.read(select(CONSOLE_PLANS.c.id))] == [last]
