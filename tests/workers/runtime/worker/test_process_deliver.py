import pytest
from tests.services.eventually import eventually
from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import hangs, receiving
from tests.workers.ledger_jobs import dispatch
from tests.workers.runtime.bridge.records import evaluation
from tests.workers.serving import is_done, send
from tests.workers.worker_process import worker

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS
from headrace_workers.features.webhooks.store.webhooks import Webhooks


def announce(ledger, subject):
    with writing(ledger.engine) as tx:
        ledger.of(Webhooks).announce(tx, tenant="default", event_type="batch.completed", subject=subject)


def told(receiver):
    """Of how many a receiver has heard; of one it may hear twice."""
    return len({heard.headers["webhook-id"] for heard in receiver.heard})


@pytest.mark.parametrize("concurrency", [None, 2], ids=["solo", "prefork"])
def test_a_receiver_that_hangs_delays_neither_others_nor_other_work(ledger, tasks, redis_server, tmp_path, concurrency):
    """While it hangs, another endpoint is told again and again, and jobs are judged by the same worker; it ends when it
    is told to, and leaves nothing in its hands.
    """
    office = Office(ledger)
    with receiving(hangs) as dead, receiving() as living:
        hanging, _ = office.register(dead.url)
        office.register(living.url)
        roles, setting = ("judge", "deliver"), {"HEADRACE_WEBHOOK_HTTP": "loopback"}
        sender = dispatch(ledger, tasks, group_size=64)
        with worker(tmp_path, redis_server, *roles, concurrency=concurrency, **setting) as process:
            for number in range(3):
                announce(ledger, f"batch_{number}")
                eventually(lambda wanted=number + 1: (sender.once(), told(living) == wanted)[1])
            eventually(lambda: dead.heard)
            eventually(is_done(ledger, send(ledger, tasks, evaluation(), "judge")))
            assert "delivered" not in office.states(endpoint_id=hanging)
            dead.over.set()
            process.terminate()
            assert process.wait(120) == 0
    assert ledger.read(CLAIMS.select()) == []
