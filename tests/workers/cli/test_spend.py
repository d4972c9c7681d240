import json
from datetime import UTC, datetime, timedelta

from headrace_workers.core.sql.database import writing
from headrace_workers.features.spend.store import Usage, count_spending, count_usage
from headrace_workers.runtime.settings import home_of


def test_a_budget_is_set_listed_and_removed(call, ledger):
    """As people and programs read it: one for each period."""
    code, _, err = call("limits", "set", "shop", "--money", "12.5", "--per", "day")
    assert (code, "shop may spend 12.50 a day" in err) == (0, True)
    assert call("limits", "set", "shop", "--money", "100")[0] == 0
    told = [json.loads(line) for line in call("limits", "list", "--json")[1].splitlines()]
    assert [(item["per"], item["most"], item["left"], item["key"]) for item in told] == [
        ("day", 12_500_000, 12_500_000, None),
        ("month", 100_000_000, 100_000_000, None),
    ]
    assert "12.50" in call("limits", "list")[1]
    assert call("limits", "remove", "shop", "--per", "day")[0] == 0
    assert len(call("limits", "list", "--json")[1].splitlines()) == 1
    code, _, err = call("limits", "remove", "shop", "--per", "day")
    assert (code != 0, "there is no such limit" in err) == (True, True)


def test_a_new_budget_lists_the_models_that_it_does_not_allow(call, ledger):
    """A provider wants money for them, and nobody knows how much."""
    far = '[models.{name}]\nengine = "openai"\nmodel = "strange"\nendpoint = "{at}"\ncontext_length = 1000\n'
    (home_of() / "models.toml").write_text(
        far.format(name="far", at="https://api.openai.com/v1") + far.format(name="near", at="http://localhost:11434/v1")
    )
    told = call("limits", "set", "shop", "--money", "1")[2].replace("\n", " ")
    assert "jobs under a budget that may need far are refused" in told


def test_a_budget_of_a_key_that_the_tenant_does_not_have_is_refused(call, ledger):
    """It would hold for nothing."""
    code, _, err = call("limits", "set", "shop", "--money", "1", "--key", "nokey")
    assert (code != 0, "shop has no key nokey" in err) == (True, True)


def test_the_budget_of_a_key_says_which_jobs_it_does_not_cover(call, ledger):
    key = json.loads(call("keys", "create", "of the shop", "--tenant", "shop", "--json")[1])["id"]
    told = call("limits", "set", "shop", "--money", "1", "--key", key)[2].replace("\n", " ")
    assert "jobs from Kafka, lines of batches and replayed jobs have no key" in told
    assert "shop has no budget of its own: `headrace limits set shop --money AMOUNT` limits them" in told
    assert "have no key" not in call("limits", "set", "shop", "--money", "9")[2]
    told = call("limits", "set", "shop", "--money", "2", "--key", key)[2].replace("\n", " ")
    assert "this budget does not cover them; the budget of shop does" in told


def test_costs_are_shown_by_what_is_asked_for(call, ledger):
    from headrace_workers.core.ledger.accounting import FinishedJob

    def ended(tenant, model, amount, currency):
        unknown = 0 if currency else 1
        models = [{"model": model, "calls": 1, "amount": amount, "unknown_calls": unknown, "bound": amount // 2}]
        return FinishedJob(tenant, ledger.now(), {"cost": {"amount": amount, "currency": currency, "models": models}})

    with writing(ledger.engine) as tx:
        count_spending(tx, [ended("shop", "luna", 1_234_567, "USD"), ended("shop", "echo", 0, None)])
    told = [json.loads(line) for line in call("cost", "--by", "tenant,model", "--json")[1].splitlines()]
    figures = ("model", "amount", "currency", "unknown_calls", "bound")
    assert [tuple(item[name] for name in figures) for item in told] == [
        ("echo", 0, None, 1, 0),
        ("luna", 1_234_567, "USD", 0, 617_283),
    ]
    table = call("cost", "--by", "model")[1]
    assert "1.234567 USD" in table
    assert "0.617283" in table
    assert "unknown" in table
    code, _, err = call("cost", "--by", "colour")
    assert (code != 0, "it may be tenant, model, application, day" in err) == (True, True)


def test_costs_are_shown_by_application_and_version(ledger, call):
    from headrace_workers.core.ledger.accounting import FinishedJob

    def ended(application, amount):
        models = [{"model": "luna", "calls": 1, "amount": amount}]
        result = {"kind": "generation", "cost": {"amount": amount, "currency": "USD", "models": models}}
        return FinishedJob("shop", ledger.now(), result, application)

    jobs = [ended("triage@3", 5), ended("triage@3", 6), ended("triage@4", 7), ended(None, 8)]
    with writing(ledger.engine) as tx:
        count_spending(tx, jobs)
        count_usage(tx, jobs)
    told = [json.loads(line) for line in call("cost", "--by", "application", "--json")[1].splitlines()]
    assert [(row["application"], row["amount"]) for row in told] == [(None, 8), ("triage@3", 11), ("triage@4", 7)]
    today = datetime.now(UTC).date()
    rows, _ = ledger.of(Usage).of_tenant("shop", today - timedelta(days=1), today + timedelta(days=1))
    assert [(row.application, row.jobs) for row in rows] == [(None, 1), ("triage@3", 2), ("triage@4", 1)]
