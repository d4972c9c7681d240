"""Whether Kafka is the cluster that the ledger belongs to, on each broker."""

from dataclasses import replace

import pytest
from tests.workers.changed_settings import changed
from tests.workers.runtime.bridge.broker import write
from tests.workers.runtime.bridge.ingesting import keyed, states
from tests.workers.runtime.bridge.records import record

from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.ledger import Fact
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.bridge.bridge import Duty
from headrace_workers.runtime.bridge.cluster import Cluster
from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.build_bridge import build_bridge


def test_the_cluster_is_stated_once_and_another_is_refused(ledger, kafka):
    Cluster(kafka, ledger, durable=True).check()
    stated = ledger.deployment.stated()[Fact.CLUSTER]
    assert len(stated) > 3
    Cluster(kafka, ledger, durable=True).check()
    ledger.deployment.restate({Fact.CLUSTER: "another"})
    with pytest.raises(
        ConfigurationError, match=f"cluster 'another', and HEADRACE_KAFKA leads to the cluster '{stated}'"
    ):
        Cluster(kafka, ledger, durable=True).check()


def test_a_broker_in_memory_states_none(ledger, embedded_kafka):
    ledger.deployment.restate({Fact.CLUSTER: "another"})
    Cluster(embedded_kafka.settings(), ledger, durable=False).check()
    assert ledger.deployment.stated() == {Fact.CLUSTER: "another"}


@pytest.mark.integration
def test_a_broker_that_is_away_is_asked_again(ledger):
    cluster = Cluster(KafkaSettings.at("127.0.0.1:9"), ledger, durable=True)
    for _ in range(2):
        with pytest.raises(KafkaUnavailable):
            cluster.check(0.5)
    assert ledger.deployment.stated() == {}


def test_a_bridge_of_another_deployment_refuses_to_start(ledger, kafka, redis_server, tmp_path):
    """With another prefix, and on another cluster: it would take over duties that are not its own."""
    settings = Settings(kafka=kafka, redis=redis_server.url, ledger=str(ledger.engine.url), home=tmp_path)
    duties = frozenset({Duty.INGEST, Duty.RELAY})
    build_bridge(settings, duties, Progress())
    assert ledger.deployment.stated().keys() == set(Fact)
    other = changed(settings, kafka=replace(kafka, prefix="other."))
    with pytest.raises(ConfigurationError, match=r"HEADRACE_TOPIC_PREFIX is 'other\.'"):
        build_bridge(other, duties, Progress())
    ledger.deployment.restate({Fact.CLUSTER: "another"})
    with pytest.raises(ConfigurationError, match="the Kafka cluster 'another'"):
        build_bridge(settings, duties, Progress())


def test_nothing_is_read_before_the_cluster_is_known(ledger, kafka, ingests):
    job, _ = keyed(1)
    write(kafka, [record(job)])
    ledger.deployment.restate({Fact.CLUSTER: "another"})
    ingest = ingests(kafka, check_cluster=Cluster(kafka, ledger, durable=True).check)
    with pytest.raises(ConfigurationError):
        ingest.once(lambda _: None)
    assert states(ledger) == {}


def test_nothing_is_published_before_the_cluster_is_known(ledger, kafka, redis_server, tmp_path):
    ledger.deployment.restate({Fact.CLUSTER: "another"})
    settings = Settings(kafka=kafka, redis=redis_server.url, ledger=str(ledger.engine.url), home=tmp_path)
    bridge = build_bridge(settings, frozenset({"batches"}), Progress())
    with pytest.raises(ConfigurationError, match="the Kafka cluster 'another'"):
        bridge._relay.once()
    assert ledger.hold("relay", "right", 1_000)
