from sqlalchemy import select
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_workers.core.ledger.accounting import FinishedJob, KnownCost
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.features.spend.metrics import usage
from headrace_workers.features.spend.store import DAY_MS, SPEND_DAYS, correct_spending, count_spending, count_usage


def values(ledger):
    with reading(ledger.engine) as tx:
        return {
            (sample.name, *sample.labels.values()): sample.value for metric in usage(tx) for sample in metric.samples
        }


def answered(tenant, day, model="luna", amount=2_000_000, currency="USD", bound=500_000):
    models = [{"model": model, "calls": 1, "amount": amount, "unknown_calls": 0, "bound": bound}]
    answer = {"model": model, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    cost = {"amount": amount, "currency": currency, "models": models}
    return FinishedJob(tenant, day * DAY_MS, {"kind": "generation", "answer": answer, "cost": cost})


def test_tokens_and_cost_are_sums_of_all_days_and_tenants_by_model(tmp_path):
    jobs = [answered("a", 1), answered("b", 2), answered("b", 2, "sol", 1, "EUR", 0), answered("b", 2, "")]
    with sqlite_ledger(tmp_path) as ledger:
        with writing(ledger.engine) as tx:
            count_usage(tx, jobs)
            count_spending(tx, jobs[:3])
        assert values(ledger) == {
            ("headrace_tokens_total", "luna", "input"): 14,
            ("headrace_tokens_total", "luna", "output"): 6,
            ("headrace_tokens_total", "sol", "input"): 7,
            ("headrace_tokens_total", "sol", "output"): 3,
            ("headrace_cost_total", "luna", "USD"): 3.0,
            ("headrace_cost_total", "sol", "EUR"): 0.000001,
        }


def test_the_cost_never_falls_when_a_bound_becomes_a_cost(tmp_path):
    """Prometheus takes a counter that falls for one that began anew."""
    with sqlite_ledger(tmp_path) as ledger:
        with writing(ledger.engine) as tx:
            count_spending(tx, [answered("a", 1)])
        assert values(ledger)["headrace_cost_total", "luna", "USD"] == 1.5
        known = KnownCost(
            job_id="j", claim_id=1, tenant="a", model="luna", application=None, currency="USD",
            bound=500_000, amount=200_000, told_at=DAY_MS, is_counted=True,
        )  # fmt: skip
        with writing(ledger.engine) as tx:
            correct_spending(tx, [known])
        assert ledger.read(select(SPEND_DAYS.c.amount)) == [(1_700_000,)]
        assert values(ledger)["headrace_cost_total", "luna", "USD"] == 1.7
