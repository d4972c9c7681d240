from dataclasses import replace
from datetime import date
from functools import partial

import pytest
from pydantic_core import from_json
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import (
    CENT,
    DEAR,
    Deployment,
    Given,
    books,
    budget,
    costs,
    kill,
    most_of,
    usual,
)
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Category, Sampling, Usage
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.charges import UNKNOWN, Price
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import OUTBOX, STEPS
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.features.generation.rerouting import Rerouting
from headrace_workers.features.spend.store import Spending


@pytest.fixture
def there(ledger: Ledger) -> Deployment:
    """A deployment with the priced models `echo` and `other`."""
    return Deployment(ledger, Given(echo=CENT, other=CENT))


def test_a_job_reserves_the_most_of_its_first_call_and_pays_what_it_cost(there: Deployment):
    budget(there.ledger, 10**9)
    new = there.new()
    there.ledger.ingest([new])
    assert books(there.ledger) == (0, most_of(new))
    there.to_the_end()
    assert books(there.ledger) == (7 * 10 + 3 * 20, 0)
    cost = costs(there.ledger)[new.id]
    assert (cost["amount"], cost["currency"], cost["unknown"]) == (130, "USD", False)
    assert cost["models"] == [{"model": "echo", "calls": 1, "amount": 130, "unknown_calls": 0, "bound": 0}]


def test_a_count_above_what_is_reserved_is_charged_with_the_most(there: Deployment):
    """Whoever tells it: no call costs more than its budget holds for it."""
    new = there.new()
    budget(there.ledger, most_of(new))
    there.ledger.ingest([new])
    there.run("model.echo", partial(usual, written=10**6))
    there.to_the_end()
    assert books(there.ledger) == (new.money, 0)
    assert costs(there.ledger)[new.id]["bound"] == new.money


def test_an_own_model_without_a_price_runs_under_a_budget(there: Deployment):
    there.prices.prices["echo"] = None
    budget(there.ledger, 10)
    there.ledger.ingest([new := there.new()])
    there.run("model.echo", lambda *_: Dead(Category.PERMANENT, "no"))
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    there.to_the_end()
    cost = costs(there.ledger)[new.id]
    assert (cost["amount"], cost["unknown"], cost["models"][0]["unknown_calls"]) == (0, True, 1)
    assert books(there.ledger) == (0, 0)


def test_an_unknown_price_is_told_and_is_refused_under_a_budget(there: Deployment):
    there.prices.prices["echo"] = UNKNOWN
    there.ledger.ingest([free := there.new(tenant="b")])
    there.to_the_end()
    cost = costs(there.ledger)[free.id]
    assert (cost["amount"], cost["unknown"], cost["models"][0]["unknown_calls"]) == (0, True, 1)
    budget(there.ledger, 10**9)
    ((_, reason),) = there.ledger.ingest([there.new()]).over
    assert "the price of the model echo is not known" in reason
    ((_, reason),) = there.ledger.ingest([there.new(model=("other", "echo"))]).over  # a later model of its chain
    assert "the price of the model echo is not known" in reason


def test_a_job_is_refused_where_its_first_call_may_cost_more_than_is_left(there: Deployment):
    jobs = [there.new() for _ in range(4)]
    most = most_of(jobs[0])
    budget(there.ledger, 2 * most)
    taken = there.ledger.ingest(jobs[:3])
    ((refused, reason),) = taken.over
    assert refused.id == jobs[2].id
    assert f"0.000000 is spent and {2 * most / 10**6:.6f} reserved" in reason
    assert reason.endswith(f"may cost more than is left, up to {most / 10**6:.6f}")
    there.ledger.cancel_all([Cancellation(jobs[0].id, "a", "")])
    assert books(there.ledger) == (0, most)
    jobs[3] = replace(jobs[3], record=replace(jobs[3].record, offset=9_000))
    assert there.ledger.ingest([jobs[3]]).new == 1
    assert books(there.ledger) == (0, 2 * most)


@pytest.mark.parametrize("binding", ["day", "month", "ever", "key"])
def test_every_budget_of_a_tenant_and_of_its_key_holds(there: Deployment, binding: str):
    new = there.new()
    for period in ("day", "month", "ever"):
        budget(there.ledger, 1 if period == binding else 10**9, period)
    budget(there.ledger, 1 if binding == "key" else 10**9, "ever", key_id="k")
    beyond = there.ledger.of(Quotas).reserve([WantedQuota(new.id, "a", 1, new.money, key_id="k")])
    assert set(beyond) == {new.id}
    budgets = {quota.key: quota.reserved for quota in there.ledger.of(Quotas).find(["a"])}
    assert set(budgets.values()) == {0}
    assert (("the key k" if binding == "key" else "the tenant a") in beyond[new.id].reason) is True


def test_a_key_pays_for_the_jobs_that_it_sent_through_a_gateway(there: Deployment):
    budget(there.ledger, 10**9)
    budget(there.ledger, 10**6 * 5, "ever", key_id="k")
    of_key, other = there.new(), there.new()
    assert there.ledger.of(Quotas).reserve([WantedQuota(of_key.id, "a", 1, of_key.money, key_id="k")]) == {}
    there.ledger.ingest([of_key, other])
    found = {quota.key_id: quota.reserved for quota in there.ledger.of(Quotas).find(["a"])}
    assert found == {"": of_key.money + other.money, "k": of_key.money}
    there.to_the_end()
    found = {quota.key_id: (quota.used, quota.reserved) for quota in there.ledger.of(Quotas).find(["a"])}
    assert found == {"": (260, 0), "k": (130, 0)}


def reroute(_started: Started, _task: Task) -> Outcome:
    """A cut answer, which may be billed: another model is asked."""
    return Retry("it was cut off", category=Category.REROUTABLE, billed=True)


def test_a_further_model_is_reserved_in_the_transaction_that_routes_to_it(there: Deployment):
    there.prices.prices["other"] = DEAR
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(model=("echo", "other"))])
    first = most_of(new)
    there.run("model.echo", reroute)
    spent, reserved = books(there.ledger)
    assert (spent, reserved >= first + first * 3 // 2) == (0, True)
    there.to_the_end()
    cost = costs(there.ledger)[new.id]
    assert {model["model"]: model["amount"] for model in cost["models"]} == {"echo": first, "other": 7 * 15 + 3 * 30}
    assert books(there.ledger) == (first + 195, 0)


def test_a_further_call_that_the_budget_does_not_hold_ends_the_job(there: Deployment):
    new = there.new(model=("echo", "other"))
    budget(there.ledger, most_of(new) * 3 // 2)
    there.ledger.ingest([new])
    there.run("model.echo", reroute)
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (new.id, Category.QUOTA)
    assert "the next call of a model may cost more than is left" in letter.reason
    assert costs(there.ledger)[new.id]["amount"] == new.money
    assert books(there.ledger) == (new.money, 0)
    assert there.run("model.other") == []


def test_a_killed_worker_is_billed_all_the_same(there: Deployment):
    roomy, tight = there.new(), there.new(tenant="b")
    budget(there.ledger, 10**9)
    there.ledger.of(Quotas).put("b", most_of(tight) * 3 // 2, "ever", unit="money")
    there.ledger.ingest([roomy, tight])
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    kill(there, claim)
    assert there.ledger.reap(3).crashed == 2
    assert books(there.ledger) == (0, 2 * roomy.money)
    assert books(there.ledger, "b") == (tight.money, 0)
    there.to_the_end()
    assert books(there.ledger) == (roomy.money + 130, 0)
    assert costs(there.ledger)[roomy.id]["models"] == [
        {"model": "echo", "calls": 2, "amount": roomy.money + 130, "unknown_calls": 0, "bound": roomy.money}
    ]


def test_what_a_worker_gives_back_at_its_end_is_charged(there: Deployment):
    """A provider may bill the call that it broke off; a claim that it had not begun costs nothing."""
    first, second = there.new(), there.new()
    budget(there.ledger, 10**9)
    there.ledger.ingest([first])
    begun = claim_one(there.ledger, lane=0)
    assert begun is not None
    there.start(begun)
    there.ledger.ingest([second])
    waiting = claim_one(there.ledger, lane=0)
    assert waiting is not None
    assert there.ledger.give_back([begun.id, waiting.id]) == 2
    assert books(there.ledger) == (0, 3 * first.money)
    there.to_the_end()
    assert books(there.ledger) == (first.money + 260, 0)


def test_a_job_that_is_cancelled_while_its_model_runs_is_charged(there: Deployment):
    """With the most of that call, which its end tells; one that waits costs nothing."""
    runs, waits = there.new(), there.new()
    budget(there.ledger, 10**9)
    there.ledger.ingest([runs])
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    started = there.start(claim)
    assert started is not None
    there.ledger.ingest([waits])
    there.ledger.cancel_all([Cancellation(job.id, "a", "") for job in (runs, waits)])
    there.complete(started, usual)  # too late
    assert books(there.ledger) == (runs.money, 0)
    assert costs(there.ledger) | {} == {runs.id: costs(there.ledger)[runs.id], waits.id: None}
    assert costs(there.ledger)[runs.id]["amount"] == runs.money


def test_a_price_that_changes_while_a_job_runs_changes_nothing_for_its_call(there: Deployment):
    budget(there.ledger, 10**9)
    there.ledger.ingest([old := there.new()])
    there.prices.prices["echo"] = replace(CENT, input=90_000_000)
    there.ledger.ingest([new := there.new()])
    there.to_the_end()
    found = costs(there.ledger)
    assert (found[old.id]["amount"], found[new.id]["amount"]) == (130, 7 * 90 + 60)


def test_a_budget_that_is_set_while_jobs_run_counts_what_is_reserved(there: Deployment):
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new()])
    budget(there.ledger, 10**9, "day")
    found = {quota.period: (quota.used, quota.reserved) for quota in there.ledger.of(Quotas).find(["a"])}
    assert found == {"ever": (0, new.money), "day": (0, new.money)}
    there.to_the_end()
    found = {quota.period: (quota.used, quota.reserved) for quota in there.ledger.of(Quotas).find(["a"])}
    assert found == {"ever": (130, 0), "day": (130, 0)}


def test_cached_input_has_its_own_price_and_seconds_are_charged_up_to_the_longest():
    price = Price("USD", input=2_000_000, cached=500_000, output=1, hour=3_600_000_000, longest_ms=2_000)
    usage = Usage(prompt_tokens=10, completion_tokens=0, cached_tokens=4)
    assert price.of(usage, 499) == 6 * 2 + 4 // 2 + 500_000
    assert price.of(usage, 9_000) == 14 + 2_000_000
    assert price.most(10) == 20 + 2_000_000


def alerts(ledger: Ledger) -> list[tuple[str, int]]:
    """What was told of budgets: period and percentage."""
    rows = ledger.read(select(OUTBOX.c.value).where(OUTBOX.c.topic == "budgets").order_by(OUTBOX.c.id))
    told = [from_json(row.value) for row in rows]
    return [(item["period"], item["percent"]) for item in told]


def test_what_is_spent_of_a_budget_is_told_once_for_each_percentage(there: Deployment):
    budget(there.ledger, 9_000)
    for _ in range(20):
        there.ledger.ingest([there.new()])
        there.to_the_end()
    assert alerts(there.ledger) == [("ever", 100)]
    budget(there.ledger, 10**6)
    assert alerts(there.ledger) == [("ever", 100)]


@pytest.mark.parametrize(("spent", "told"), [(49, []), (50, [50]), (79, [50]), (80, [80]), (100, [100])])
def test_the_highest_percentage_that_is_reached_is_told(there: Deployment, spent: int, told: list[int]):
    most = 1_000
    budget(there.ledger, 10**9)
    for _ in range(2):
        there.ledger.ingest([there.new()])
    budget(there.ledger, most)
    price = Usage(prompt_tokens=spent * most // 100 // 10, completion_tokens=0)
    there.run("model.echo", lambda at, task: usual(at, task, read=price.prompt_tokens // 2, written=0))
    there.to_the_end()
    assert [percent for _, percent in alerts(there.ledger)] == told


RUBRIC = {"criterion": "rubric", "question": "Is it polite?", "model": "other"}


def judged(started: Started, task: Task) -> Outcome:
    """What the stage of models that judge says, with the tokens of its model."""
    if started.stage != "rubric":
        return usual(started, task)
    return Done(usage=Usage(prompt_tokens=50, completion_tokens=2))


def test_a_judge_is_reserved_when_its_job_goes_on_to_it_and_counts_in_the_cost(there: Deployment):
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(criteria=(RUBRIC,))])
    there.run("model.echo")
    assert books(there.ledger) == (0, new.money)
    there.run("moderate")
    spent, reserved = books(there.ledger)
    assert (spent, reserved > 130 + 2_000 * 20) == (0, True)
    there.run("model.other", judged)
    there.to_the_end()
    amounts = {model["model"]: model["amount"] for model in costs(there.ledger)[new.id]["models"]}
    assert amounts == {"echo": 130, "other": 50 * 10 + 2 * 20}
    assert books(there.ledger) == (130 + 540, 0)


def test_a_judge_that_tells_of_no_tokens_is_charged_with_the_most(there: Deployment):
    """Nobody knows better, and it was not free."""
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(criteria=(RUBRIC,))])
    there.run("model.echo")
    there.run("moderate")
    most = books(there.ledger)[1] - 130
    there.run("model.other", lambda at, task: Done())
    there.to_the_end()
    assert costs(there.ledger)[new.id]["amount"] == 130 + most == books(there.ledger)[0]


def test_a_job_that_the_budget_ended_is_replayed_where_it_stopped(there: Deployment):
    new = there.new(criteria=(RUBRIC,))
    budget(there.ledger, new.money)
    there.ledger.ingest([new])
    there.to_the_end()
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    assert there.run("model.other", judged) == []
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category, letter.stage) == (new.id, Category.QUOTA, "rubric")
    assert books(there.ledger) == (130, 0)
    budget(there.ledger, 10**9)
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    assert there.run("model.other", judged) == [new.id]
    there.to_the_end()
    assert books(there.ledger) == (130 + 540, 0)


def test_a_replayed_job_reserves_its_next_call_and_pays_for_what_comes_behind(there: Deployment):
    """Each end tells of the calls since the end before: together they are what is spent, also by day."""
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new()])
    there.run("model.echo", lambda *_: Dead(Category.PERMANENT, "no", billed=True))
    assert books(there.ledger) == (new.money, 0)
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    assert books(there.ledger) == (new.money, new.money)
    there.to_the_end()
    assert books(there.ledger) == (new.money + 130, 0)
    cost = costs(there.ledger)[new.id]
    assert (cost["amount"], cost["unknown"], [model["calls"] for model in cost["models"]]) == (130, False, [1])
    with writing(there.ledger.engine) as tx:
        account(tx, clock(tx))
    (day,), _ = there.ledger.of(Spending).spent(["tenant"], date.min, date.max)
    assert (day.calls, day.amount, day.unknown_calls) == (2, new.money + 130, 0)


def test_a_step_that_is_led_around_its_model_reserves_for_the_next(there: Deployment):
    there.prices.prices["other"] = DEAR
    jobs = [there.new(model=("echo", "other"), sampling=Sampling(max_tokens=4_000)) for _ in range(2)]
    first = most_of(jobs[0])
    budget(there.ledger, 2 * first)
    assert there.ledger.ingest(jobs).new == 2
    assert led_around(there) == []  # each holds what its first call may cost, and the dearer one costs more
    budget(there.ledger, 2 * first + first)
    with writing(there.ledger.engine) as tx:
        tx.execute(update(STEPS).values(reason=None))
    (moved,) = led_around(there)
    assert books(there.ledger)[1] > 2 * first
    assert books(there.ledger)[1] <= 3 * first
    there.to_the_end()
    assert books(there.ledger)[1] == 0
    assert costs(there.ledger)[moved]["models"][-1]["model"] == "other"


def led_around(there: Deployment) -> list[str]:
    """Lead steps around `echo`, which has no worker; the jobs whose step moved."""
    with writing(there.ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "ready").values(ready_at=STEPS.c.ready_at - 9_000))
    known = KnownBreakers(there.ledger)
    Rerouting(
        ledger=there.ledger, pipeline=there.pipeline, breakers=known, models=lambda: ["echo"],
        live=lambda _queues: frozenset(), clock=SystemClock(),
    ).once()  # fmt: skip
    return [row.job_id for row in there.ledger.read(select(STEPS.c.job_id).where(STEPS.c.queue == "model.other"))]
