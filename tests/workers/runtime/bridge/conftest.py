import pytest
from tests.workers.runtime.bridge.records import rules_of
from tests.workers.tasks_in_memory import Tasks

from headrace_workers.core.clock import SystemClock
from headrace_workers.runtime.bridge.duty import IncidentReporter
from headrace_workers.runtime.bridge.ingest import Ingest
from headrace_workers.runtime.bridge.partitions import Partitions
from headrace_workers.runtime.wire.assignment import Assigner


@pytest.fixture
def ingests(ledger):
    made = []

    def make(kafka, max_active=1_000, name="a", clock=None, retention=86_400.0, **options):
        clock = clock or SystemClock()
        made.append(
            Ingest(
                partitions=Partitions(kafka, ledger, name, clock), prefix=kafka.prefix, ledger=ledger,
                rules=rules_of(ledger), max_active=max_active, retention=retention,
                clock=clock,
                incidents=IncidentReporter(ledger, name, clock),
                assigner=Assigner(ledger=ledger, tasks=Tasks(waiting=99), sender=name, depth=2, lease_ms=60_000),
                **options,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for ingest in made:
        ingest.close()
