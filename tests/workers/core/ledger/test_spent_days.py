from datetime import date

from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.sql.database import writing
from headrace_workers.features.spend.store import Spending


def test_every_end_with_a_cost_is_counted_once(ledger):
    there = Deployment(ledger, Given(echo=CENT))
    answered, failed, unpriced = there.new(), there.new(tenant="b"), there.new(model="other", tenant="b")
    ledger.ingest([answered, unpriced])
    there.to_the_end()
    ledger.ingest([failed])
    there.run("model.echo", lambda *_: Dead(Category.PERMANENT, "no", billed=True))
    for _ in range(2):
        with writing(ledger.engine) as tx:
            account(tx, ledger.now())
    found, until = ledger.of(Spending).spent(("tenant", "model"), date.min, date.max)
    told = [(item.tenant, item.model, item.calls, item.amount, item.currency, item.unknown_calls) for item in found]
    assert told == [
        ("a", "echo", 1, 130, "USD", 0),
        ("b", "echo", 1, failed.money, "USD", 0),
        ("b", "other", 1, 0, None, 1),
    ]
    assert until > 0
    of_one, _ = ledger.of(Spending).spent((), date.min, date.max, "a")
    assert [(item.calls, item.amount) for item in of_one] == [(1, 130)]
