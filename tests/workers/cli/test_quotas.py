import json

from tests.workers.cli.conftest import Call

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.store.quotas import Quotas


def test_a_quota_is_set_listed_and_removed(call: Call, ledger: Ledger):
    """As people and programs read it."""
    code, _, err = call("limits", "set", "shop", "--tokens", "5000000", "--per", "day")
    assert (code, "5,000,000 tokens a day" in err) == (0, True)
    assert call("limits", "set", "shop", "--tokens", "7")[0] == 0
    (told,) = [json.loads(line) for line in call("limits", "list", "--json")[1].splitlines()]
    assert (told["tenant"], told["most"], told["per"], told["left"]) == ("shop", 7, "month", 7)
    assert "shop" in call("limits", "list")[1]
    assert call("limits", "remove", "shop")[0] == 0
    code, _, err = call("limits", "remove", "shop")
    assert (code, "no such limit" in err) == (1, True)


def test_a_period_that_is_none_is_told(call: Call, ledger: Ledger):
    code, _, err = call("limits", "set", "shop", "--tokens", "5", "--per", "week")
    assert (code, "--per is 'week'" in err) == (2, True)
    assert ledger.of(Quotas).find() == []


def test_what_no_tenant_is_called_has_no_quota(call: Call, ledger: Ledger):
    code, _, err = call("limits", "set", "a b", "--tokens", "5")
    assert (code, "'a b' cannot name a tenant" in err) == (2, True)
    code, out, err = call("limits", "list")
    assert (code, out, "no tenant has a limit" in err) == (0, "", True)
    assert "no keys: `headrace keys create NAME` makes one" in call("keys", "list")[2]


def test_many_quotas_are_listed_a_page_at_a_time(call: Call, ledger: Ledger):
    for tenant in ("c", "a", "b"):
        call("limits", "set", tenant, "--tokens", "5")

    def listed(*options: str) -> tuple[list[str], str]:
        _, out, err = call("limits", "list", "--json", *options)
        return [json.loads(line)["tenant"] for line in out.splitlines()], err

    first, words = listed("--limit", "2")
    assert (first, "--after b shows the next" in words) == (["a", "b"], True)
    assert listed("--limit", "2", "--after", "b") == (["c"], "")
    assert listed("--tenant", "b") == (["b"], "")
    assert "none of these tenants has a limit" in call("limits", "list", "--tenant", "d")[2]
