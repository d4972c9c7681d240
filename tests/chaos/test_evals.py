"""A run of an eval while its bridge is killed: once while its rows are written down, and while it is judged."""

import json
from collections import Counter

import pytest
from tests.chaos.deployment import over
from tests.chaos.history import query
from tests.chaos.stacks import STACKS, services_of
from tests.services.eventually import eventually

from headrace_workers.files.files import Files
from headrace_workers.files.store import Store
from headrace_workers.ledger.evals.evals import NewEval, NewRun
from headrace_workers.ledger.ledger import Ledger

pytestmark = pytest.mark.chaos

ROWS = 2_000
SAMPLE = "{{sample.output_text}}"
CRITERIA = [
    {"type": "string_check", "name": "right", "input": SAMPLE, "reference": "{{item.answer}}", "operation": "eq"}
]
_RUNS = "SELECT sum(attempts), count(*) FROM steps WHERE stage = 'generate'"


@pytest.fixture(params=STACKS)
def deployment(request, service_folder):
    """A bridge and workers as processes of their own."""
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "evals", lease=15.0)  # no worker is taken for dead here
    made.prepare()
    yield made
    made.close()


def begun(ledger, files):
    """A run of so many rows; every third has a wrong answer, one cannot fill its template, one is no JSON."""
    rows = [json.dumps({"item": {"q": f"say {n}", "answer": f"say {n}" if n % 3 else "no"}}) for n in range(ROWS)]
    rows[70], rows[900] = json.dumps({"item": {"answer": "x"}}), "{"
    file = files.add(["\n".join(rows).encode()], tenant="a", purpose="evals", name="rows.jsonl", keep=None)
    new = {"id": "eval_1", "tenant": "a", "name": "", "data_source_config": "{}", "metadata": "{}"}
    ledger.evals.create(NewEval(**new, testing_criteria=json.dumps(CRITERIA)))
    source = {
        "type": "completions", "model": "echo", "source": {"type": "file_id", "id": file.id},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]},
    }  # fmt: skip
    return ledger.evals.start(
        "eval_1", "a", NewRun(id="evalrun_1", name="", data_source=json.dumps(source), metadata="{}")
    )


@pytest.mark.slow
def test_every_item_has_one_end_however_often_its_bridge_dies(deployment):
    """Killed while items are written down and again while answers are read: each is counted once, and asked once."""
    ledger = Ledger.at(deployment.ledger)
    run = begun(ledger, Files(ledger.files, Store.at(str(deployment.folder / "files"))))

    def stands():
        return ledger.evals.run("eval_1", "evalrun_1", "a")

    def ended():
        counts = json.loads(stands().tally).get("counts", {})
        return counts.get("passed", 0) + counts.get("failed", 0)

    deployment.start("bridge", "generate", "moderate", "judge")
    eventually(lambda: ledger.evals.count(run.number, None), 120)
    deployment.kill("bridge")
    deployment.revive()
    for share in (ROWS // 10, ROWS // 2):
        eventually(lambda share=share: ended() >= share, 120)
        deployment.kill("bridge")
        deployment.revive()
    eventually(lambda: stands().ended_at is not None or deployment.revive(), 120)

    found = stands()
    assert (found.state, found.total) == ("completed", ROWS)
    statuses = Counter(row.status for row in ledger.evals.items(run.number, after=None, limit=ROWS))
    wrong = len([n for n in range(ROWS) if not n % 3 and n != 900])
    assert statuses == {"pass": ROWS - 2 - wrong, "fail": wrong, "error": 2}
    tally = json.loads(found.tally)
    assert tally["counts"] == {"passed": ROWS - 2 - wrong, "failed": wrong, "errored": 2}
    assert tally["models"]["echo"]["invocation_count"] == ROWS - 2
    assert len(ledger.batches.batches("a")) == 1
    ((runs, steps),) = query(deployment.watched, _RUNS)[0]
    assert int(steps) == ROWS - 2
    assert int(runs) == int(steps)  # only bridges died
    ledger.close()
