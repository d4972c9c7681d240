"""Check that Kafka is the cluster that the ledger belongs to, before anything is read or published."""

from headrace_producers.admin import cluster_id
from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.outage import KafkaUnavailable


class Cluster:
    """Identity of the Kafka cluster, asked once. Thread-safe."""

    def __init__(self, kafka: KafkaSettings, ledger: Ledger, *, durable: bool) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._known = not durable  # a broker in memory is another cluster each time

    def check(self, seconds: float = 10.0) -> None:
        """Raise ConfigurationError where the ledger belongs to another cluster, and KafkaUnavailable while Kafka does
        not answer in so many seconds. A ledger that states no cluster belongs to this one from here on.
        """
        if self._known:
            return
        try:
            found = cluster_id(self._kafka, timeout=seconds)
        except Unavailable as error:
            raise KafkaUnavailable(str(error)) from error
        if found:
            self._ledger.deployment.state(Fact.CLUSTER, found)
        self._known = True
