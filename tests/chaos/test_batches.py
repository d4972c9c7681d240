"""Batches while bridges and workers are killed: each line has one end, and the files agree with the ledger."""

import json
import random
from collections import Counter

import pytest
from tests.chaos.deployment import over
from tests.chaos.history import query
from tests.chaos.stacks import STACKS, services_of
from tests.services.eventually import eventually

from headrace_workers.batches.defaults import Defaults
from headrace_workers.batches.submit import Wishes, submit
from headrace_workers.files.files import Files
from headrace_workers.files.store import Store
from headrace_workers.ledger.ledger import Ledger

pytestmark = pytest.mark.chaos

LINES = 1_000
KILLS = 8


@pytest.fixture(params=STACKS)
def deployment(request, service_folder):
    """Two bridges, and workers, as processes of their own."""
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "batches")
    made.prepare()
    for name in ("bridge", "bridge-2"):
        made.extra[name] = {"HEADRACE_BATCH_WINDOW": "400"}
    yield made
    made.close()


def test_every_line_has_one_end_however_often_its_bridge_dies(deployment):
    """Eight kills while lines are fed and answers written; bad lines and duplicates among them."""
    lines = [json.dumps({"prompt": f"line {number}", "idempotency_key": f"k{number}"}) for number in range(LINES)]
    lines[70], lines[900] = "{", lines[10]
    ledger = Ledger.at(deployment.ledger)
    files = Files(ledger.files, Store.at(str(deployment.folder / "files")))
    data = "\n".join(lines).encode()
    file = files.add([data], tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True)
    wishes = Wishes(tenant="a", defaults=Defaults("echo", {"tenant": "a", "lane": "batch"}))
    batch, _ = submit(ledger.batches, file, wishes, key="once")
    deployment.start("bridge", "bridge-2", "generate", "moderate", "judge")
    chance = random.Random(11)

    def done():
        row = ledger.batches.batch(batch.id)
        return row.completed + row.failed

    for kill in range(1, KILLS + 1):
        eventually(lambda kill=kill: done() >= min(LINES - 1, kill * LINES // (KILLS + 4)))
        deployment.kill(chance.choice(["bridge", "bridge-2"]) if kill % 4 else "generate")
        deployment.revive()
    eventually(lambda: ledger.batches.batch(batch.id).ended_at is not None or deployment.revive())

    ended = ledger.batches.batch(batch.id)
    assert (ended.state, ended.total, ended.completed, ended.failed) == ("completed", LINES, LINES - 2, 2)
    output = [json.loads(line) for line in b"".join(files.chunks(ended.output_file)).splitlines()]
    assert Counter(each["line"] for each in output) == Counter(set(range(1, LINES + 1)) - {71, 901})
    assert all(each["custom_id"] == f"k{each['line'] - 1}" for each in output)
    errors = [json.loads(line) for line in b"".join(files.chunks(ended.error_file)).splitlines()]
    assert sorted((each["line"], each["error"]["code"]) for each in errors) == [
        (71, "invalid"), (901, "duplicate_custom_id"),
    ]  # fmt: skip
    jobs, runs = query(
        deployment.watched,
        "SELECT count(*), count(DISTINCT terminal) FROM jobs WHERE state = 'done'",
        "SELECT sum(attempts) FROM steps WHERE stage = 'generate'",
    )
    assert tuple(jobs[0]) == (LINES - 2, LINES - 2)
    assert runs[0][0] - (LINES - 2) <= KILLS * 64  # what a worker had in its hands when it died
    ledger.close()
