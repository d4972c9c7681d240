"""Which files one process of a parallel run does, one after the other.

Files of a set need services that are dear to start, and that cost while nobody asks them for anything: a deployment
with its bridge and workers, or Apache Kafka. Spread over all processes, each of these would start its own.
"""

from pathlib import PurePosixPath
from typing import Any, Final

from xdist.scheduler import LoadFileScheduling

_KILLED: Final = "Apache Kafka under deployments that are killed"
_ASKED: Final = "Apache Kafka"
_GATEWAY: Final = "the deployment of tests/workers/gateway"

SETS: Final = (_KILLED, _ASKED, _GATEWAY)  # in the order in which they are begun

_FOLDERS: Final = {"tests/chaos": _KILLED, "tests/producers": _ASKED, "tests/workers/gateway": _GATEWAY}
_FILES: Final = {
    "tests/acceptance/test_commands.py": _ASKED,
    "tests/bench/test_ends.py": _ASKED,
    "tests/clients/test_idempotence.py": _ASKED,
    "tests/clients/test_odd_records.py": _ASKED,
    "tests/test_services.py": _ASKED,
    "tests/workers/bridge/test_ingest.py": _ASKED,
    "tests/workers/bridge/test_ingest_faults.py": _ASKED,
    "tests/workers/bridge/test_relay.py": _ASKED,
    "tests/workers/bridge/test_shut_places.py": _ASKED,
    "tests/workers/cli/test_doctor.py": _ASKED,
    "tests/workers/gateway/test_answering.py": None,  # these have gateways of their own, and no deployment
    "tests/workers/gateway/test_faults.py": None,
    "tests/workers/gateway/test_lengths.py": None,
    "tests/workers/gateway/test_processes.py": None,
    "tests/workers/gateway/test_quotas.py": None,
    "tests/workers/gateway/test_topics.py": _ASKED,
    "tests/workers/gateway/test_vector_stores.py": None,
    "tests/workers/gateway/test_webhooks.py": None,
}


def set_of(file: str) -> str | None:
    """The set of a file, by its path from the root of the repository; None where it is of none."""
    return _FILES.get(file, _FOLDERS.get(str(PurePosixPath(file).parent)))


class BySets(LoadFileScheduling):
    """A set goes to one process, and any other file to whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file: Any = super()._split_scope(nodeid)
        return set_of(file) or file
