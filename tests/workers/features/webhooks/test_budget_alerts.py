from dataclasses import replace

import pytest
from standardwebhooks import Webhook
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, budget, usual
from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import receiving
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_schemas.callback import BUDGET_REACHED
from headrace_workers.core.sql.database import writing
from headrace_workers.features.access.store import quota_rows
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks

MOST = 10**6


@pytest.fixture
def ledger(tmp_path):
    """A ledger whose tenant `a` has a budget."""
    with sqlite_ledger(tmp_path) as made:
        budget(made, MOST)
        yield made


def spend(ledger, percent):
    there = Deployment(ledger, Given(echo=replace(CENT, input=10_000_000_000)))  # a hundredth of the budget a token
    budget(ledger, 10**9)  # enough to reserve the most that the job may cost
    ledger.ingest([there.new()])
    budget(ledger, MOST)
    there.run("model.echo", lambda at, task: usual(at, task, read=percent, written=0))
    there.to_the_end()


def states(ledger):
    """How each delivery stands, oldest first."""
    return [delivery.state for delivery in reversed(ledger.of(Webhooks).deliveries(Range(), 100))]


def test_an_endpoint_that_subscribes_is_told_once_at_each_percentage(ledger):
    office = Office(ledger)
    with receiving() as receiver:
        _, secret = office.register(receiver.url, tenant="a", events=(BUDGET_REACHED,))
        for percent in (49, 1, 20, 10, 5, 15):
            spend(ledger, percent)
            office.deliver()
        heard = receiver.heard
    told = [Webhook(secret).verify(row.body, row.headers) for row in heard]
    assert [item["type"] for item in told] == [BUDGET_REACHED] * 3
    assert [(item["data"]["percent"], item["data"]["spent"]) for item in told] == [
        (50, MOST // 2), (80, MOST * 8 // 10), (100, MOST),
    ]  # fmt: skip
    assert {(item["data"]["tenant"], item["data"]["period"], item["data"]["most"]) for item in told} == {
        ("a", "ever", MOST)
    }
    assert len({row.headers["webhook-id"] for row in heard}) == 3


def test_a_delivery_is_made_in_the_transaction_that_reaches_the_percentage(ledger):
    office = Office(ledger)
    office.register("http://127.0.0.1:1/", tenant="a", events=(BUDGET_REACHED,))

    def spent_within(*, then_fails):
        with writing(ledger.engine) as tx:
            quotas = quota_rows.locked(tx, ["a"])
            quota_rows.change(tx, quotas, {quotas["a"][0].key: (0, MOST // 2)})
            if then_fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spent_within(then_fails=True)
    assert states(ledger) == []
    spent_within(then_fails=False)
    assert states(ledger) == ["pending"]


def test_a_budget_that_is_set_again_tells_nobody_a_second_time_in_its_period(ledger):
    office = Office(ledger)
    office.register("http://127.0.0.1:1/", tenant="a", events=(BUDGET_REACHED,))
    spend(ledger, 50)
    budget(ledger, MOST)
    spend(ledger, 1)
    assert len(states(ledger)) == 1


def test_only_endpoints_of_the_tenant_that_ask_for_it_by_name_are_told(ledger):
    office = Office(ledger)
    office.register("http://127.0.0.1:1/", tenant="b", events=(BUDGET_REACHED,))
    office.register("http://127.0.0.1:1/", tenant="a", events=("job.completed", "batch.completed"))
    spend(ledger, 100)
    assert states(ledger) == []
