"""The bridge that feeds a large batch is killed in the middle of it, and another goes on: each line is one job."""

import json
from uuid import UUID

import pytest
from tests.chaos.deployment import ROLES, Deployment, over
from tests.chaos.history import query
from tests.services.eventually import eventually

from headrace_schemas.job import derive_job_id
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.files.file_service import Files
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.files.store.stored import StoredFiles

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

LINES = 10_000
FEEDERS = ("feeder", "feeder-2", "feeder-3")
_ROLES = {**ROLES, "feeder": ("bridge", "--only", "batches")}
_ALL_AT_ONCE = {"HEADRACE_BATCH_WINDOW": str(2 * LINES), "HEADRACE_MAX_ACTIVE": str(4 * LINES)}
_PATIENCE = 600.0  # seconds: a bound for hangs


@pytest.fixture
def deployment(embedded_kafka, redis_server, postgres, service_folder):
    made = over(embedded_kafka, redis_server, postgres, service_folder, "feeder", roles=_ROLES)
    made.prepare()
    made.extra = dict.fromkeys(FEEDERS, _ALL_AT_ONCE)
    yield made
    made.close()


def test_each_line_is_one_job_when_its_feeder_dies_in_the_middle(deployment: Deployment):
    ledger = Ledger.at(deployment.ledger)
    files = Files(ledger.of(StoredFiles), Store.at(str(deployment.folder / "files")))
    data = (json.dumps({"prompt": f"line {number}"}).encode() + b"\n" for number in range(1, LINES + 1))
    file = files.add(data, tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True)
    batch, _ = submit(ledger, file, BatchOptions(tenant="a", defaults=Defaults("echo", {"tenant": "a"})), key=None)

    def taken() -> int:
        return int(ledger.of(Batches).batch(batch.id).taken)  # type: ignore[union-attr]

    for feeder, until in zip(FEEDERS, (LINES // 2, LINES * 3 // 4, LINES), strict=True):
        deployment.start(feeder)
        eventually(lambda until=until: taken() >= until, _PATIENCE)
        if feeder is not FEEDERS[-1]:
            deployment.kill(feeder)

    wanted = {UUID(derive_job_id("a", f"batch:{batch.id}:{number}")) for number in range(1, LINES + 1)}
    jobs, lines = query(
        deployment.watched, "SELECT id FROM jobs", "SELECT count(*), min(number), max(number), sum(jobs) FROM lines"
    )
    assert len(jobs) == LINES
    assert {UUID(job_id) for (job_id,) in jobs} == wanted
    assert [tuple(map(int, row)) for row in lines] == [(LINES, 1, LINES, LINES)]
    eventually(lambda: ledger.of(Batches).batch(batch.id).read)  # type: ignore[union-attr]
    assert taken() == LINES
    ledger.close()
