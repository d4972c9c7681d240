import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.ledger import Fact
from headrace_workers.core.ledger.positions import LogPartition
from headrace_workers.core.migrate import require_ledger


def test_the_first_states_it_and_who_is_another_is_refused(ledger):
    deployment = ledger.deployment
    deployment.require(Fact.PREFIX, "a.")
    deployment.state(Fact.PREFIX, "a.")
    deployment.state(Fact.PREFIX, "a.")
    for refuses in (deployment.require, deployment.state):
        with pytest.raises(
            ConfigurationError, match=r"'a\.', and HEADRACE_TOPIC_PREFIX is 'b\.'.*`headrace ledger bind`"
        ):
            refuses(Fact.PREFIX, "b.")
    deployment.state(Fact.CLUSTER, "one")
    with pytest.raises(ConfigurationError, match="cluster 'one', and HEADRACE_KAFKA leads to the cluster 'two'"):
        deployment.state(Fact.CLUSTER, "two")
    assert deployment.stated() == {Fact.PREFIX: "a.", Fact.CLUSTER: "one"}


def test_every_process_asks_for_the_prefix_before_it_starts(ledger, ledger_url):
    require_ledger(ledger_url, "b.")
    ledger.deployment.state(Fact.PREFIX, "a.")
    require_ledger(ledger_url, "a.")
    with pytest.raises(ConfigurationError, match=r"'a\.', and HEADRACE_TOPIC_PREFIX is 'b\.'"):
        require_ledger(ledger_url, "b.")


def test_it_is_changed_on_purpose_while_no_bridge_runs(ledger):
    deployment = ledger.deployment
    deployment.state(Fact.PREFIX, "a.")
    deployment.state(Fact.CLUSTER, "one")
    ledger.share("bridge-1", [LogPartition("t", 0, "log")], 60_000)
    with pytest.raises(ConfigurationError, match="the bridge bridge-1 runs with this ledger"):
        deployment.restate({Fact.PREFIX: "b."})
    ledger.leave("bridge-1")
    assert deployment.restate({Fact.PREFIX: "b."}) == {Fact.PREFIX: "a.", Fact.CLUSTER: "one"}
    assert deployment.stated() == {Fact.PREFIX: "b."}
    deployment.forget()
    assert deployment.stated() == {}
