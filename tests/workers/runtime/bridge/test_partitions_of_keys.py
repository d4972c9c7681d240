from uuid import uuid4

from kafka.partitioner.default import DefaultPartitioner

from headrace_workers.runtime.bridge.destinations import Partitions


class Cluster:
    def topics(self):
        return {"t"}

    def partitions_for_topic(self, _topic):
        return {3, 1, 0, 2, 6, 5, 4}

    def available_partitions_for_topic(self, _topic):
        return {1}


def test_a_key_goes_where_every_client_puts_it():
    ours, theirs = Partitions(), DefaultPartitioner()
    keys = [str(uuid4()).encode() for _ in range(50)]
    for key in keys + keys:
        assert ours.partition("t", None, key, None, b"", Cluster()) == theirs.partition(
            "t", None, key, None, b"", Cluster()
        )
    assert ours.partition("t", None, None, None, b"", Cluster()) == 1
