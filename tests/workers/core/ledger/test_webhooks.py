import json

from sqlalchemy import select, text, update
from tests.workers.core.ledger.test_hot_path import plan_of, scans, statements
from tests.workers.features.webhooks.office import ORIGINS, Office
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_schemas.callback import Callback, Recipient
from headrace_workers.core.sql.database import locks_rows, writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.endpoints import anybody, heard
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS, DELIVERIES, ENDPOINTS


def jobs(ledger, count, **fields):
    return take_in(ledger, [evaluation(input=str(n), **fields) for n in range(count)])


def test_a_batch_is_announced_once_to_who_listens(ledger):
    office = Office(ledger)
    one, _ = office.register("http://127.0.0.1:1/", events=("batch.completed",))
    office.register("http://127.0.0.1:2/", events=("batch.failed",))
    office.register("http://127.0.0.1:3/", tenant="other", events=("batch.completed",))
    told = {"tenant": "default", "event_type": "batch.completed", "subject": "batch_" + "a" * 32}
    try:
        with writing(ledger.engine) as tx:
            ledger.of(Webhooks).announce(tx, **told)
            raise RuntimeError("the caller failed")
    except RuntimeError:
        pass
    assert ledger.of(Webhooks).deliveries(Range(), 10) == []
    for _ in range(2):
        with writing(ledger.engine) as tx:
            ledger.of(Webhooks).announce(
                tx, data={"counts": {"total": 3}}, callback=Recipient(url="https://shop.example/done"), **told
            )
    deliveries = ledger.of(Webhooks).deliveries(Range(), 10)
    assert sorted((item.type, item.subject, item.url or item.endpoint_id) for item in deliveries) == sorted([
        ("batch.completed", told["subject"], one),
        ("batch.completed", told["subject"], "https://shop.example/done"),
    ])  # fmt: skip
    _, body = ledger.of(Webhooks).delivery(deliveries[0].id)
    assert json.loads(body)["data"] == {"id": told["subject"], "counts": {"total": 3}}


def test_what_is_forgotten_goes_with_its_job(ledger):
    office = Office(ledger)
    office.register("http://127.0.0.1:1/")
    office.end(*jobs(ledger, 2, callback=Callback(url="https://shop.example/")))
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(state="done", ended_at=1))
        tx.execute(update(STEPS).values(state="done"))
        tx.execute(update(ENDPOINTS).where(ENDPOINTS.c.origin == "place").values(updated_at=1))
    for _ in range(3):
        ledger.prune(1_000)
    assert ledger.read(select(DELIVERIES.c.id)) == []
    assert ledger.read(select(CALLBACKS_OF_JOBS.c.job_id)) == []
    assert [endpoint.origin for endpoint in ledger.of(Webhooks).endpoints(origins=ORIGINS)] == ["registered"]


def test_what_the_relay_and_a_worker_ask_uses_indexes(ledger):
    office = Office(ledger)
    endpoint, _ = office.register("http://127.0.0.1:1/")
    known = jobs(ledger, 300)
    office.end(*known)
    with writing(ledger.engine) as tx:
        for number in range(20):
            tx.execute(text(
                "INSERT INTO webhook_deliveries (id, endpoint_id, tenant, type, subject, body, created_at) "
                f"SELECT substr(id, 1, 30) || '{number:05}', 'other{number}', tenant, type, subject, body, created_at "
                "FROM webhook_deliveries WHERE length(id) = 36"
            ))  # fmt: skip
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    ids = [row.id for row in ledger.of(Webhooks).deliveries(Range(), 20)]
    with writing(ledger.engine) as tx:
        if locks_rows(tx):
            tx.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        with statements(tx) as seen:
            from headrace_workers.features.webhooks.store import deliveries, endpoints

            assert anybody(tx)
            assert len(heard(tx, known[:20])) == 20
            deliveries.due(tx, ids), endpoints.for_sending(tx, endpoint, "default")
            deliveries.find(tx, Range(endpoint_id=endpoint), 10)
            deliveries.replay(tx, Range(endpoint_id=endpoint), delivered=False)
        assert len(seen) >= 5
        for statement, parameters in seen:
            plan = plan_of(tx, statement, parameters)
            lines = [line for line in scans(plan) if "webhook_endpoints" not in line and "callbacks" not in line]
            assert lines == [], f"{statement}\n{plan}"
