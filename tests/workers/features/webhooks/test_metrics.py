from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import receiving, says
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_workers.core.sql.database import reading
from headrace_workers.features.webhooks.metrics import END_COUNTERS


def test_deliveries_are_counted_when_they_ended_and_by_how(ledger):
    office, began = Office(ledger), ledger.now() - 1
    with receiving(says(200)) as receiver:
        office.register(receiver.url)
        gone, _ = office.register(f"{receiver.url}gone")
        take_in(ledger, [evaluation(input=str(number)) for number in range(3)])
        office.end()

        def counted(until):
            with reading(ledger.engine) as tx:
                return END_COUNTERS[0].between(tx, began, until)

        assert counted(ledger.now() + 1_000) == {}
        office.webhooks.remove(gone)
        office.deliver()
    assert counted(ledger.now() + 1_000) == {("delivered",): 3, ("dropped",): 3}
    assert counted(began) == {}
