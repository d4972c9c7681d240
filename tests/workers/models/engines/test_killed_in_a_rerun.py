"""A worker that is killed while a row that its grammar has stopped goes on."""

import json
import re
from pathlib import Path

from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.redis import RedisServer
from tests.workers.ledger_jobs import dispatch, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.worker_process import worker

from headrace_schemas import Sampling
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import ServedModel
from headrace_workers.core.tables import OUTBOX, STEPS
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.testing import make_tiny_model

PROGRAM = ("-m", "tests.workers.rerun_program")


def test_a_worker_that_is_killed_in_a_rerun_loses_no_answer(
    ledger: Ledger, tasks: TaskQueue, redis_server: RedisServer, tmp_path: Path
) -> None:
    make_tiny_model(tmp_path, "other")
    sampling = Sampling(max_tokens=9)
    ids = take_in(ledger, [generation(model="other", prompt=text, sampling=sampling) for text in ("one", "two")])
    sender = dispatch(ledger, tasks, models=lambda: [ServedModel("other")], group_size=2, lease_ms=2_000)

    def answered() -> bool:
        ledger.reap(9)
        sender.once()
        rows = ledger.read(select(STEPS.c.state).where(STEPS.c.stage == "generate"))
        return [row.state for row in rows] == ["done", "done"]

    with worker(tmp_path, redis_server, "generate", program=PROGRAM, model="other", WAITS="1") as first:
        eventually(lambda: sender.once() or (tmp_path / "going-on").exists())
        first.kill()
    assert not answered()
    with worker(tmp_path, redis_server, "generate", program=PROGRAM, model="other"):
        eventually(answered)
    records = [
        json.loads(row.value) for row in ledger.read(select(OUTBOX.c.value)) if b"completion_tokens" in row.value
    ]
    assert sorted(record["job_id"] for record in records) == sorted(ids)
    assert all(re.fullmatch("[A-Z]{2}", record["answer"]["text"]) for record in records)
