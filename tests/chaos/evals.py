"""A run of an eval whose bridge is killed: `python -m tests.chaos.evals --rows 100000 --kills 2`.

Exit code 0 when each item has one end, is counted once, and was asked once; 1 otherwise.
"""

import argparse
import json
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.chaos.deployment import Deployment
from tests.chaos.history import query
from tests.chaos.servers import Servers, own_folder
from tests.services.eventually import eventually

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.evals.store import Evals, NewEval, NewRun
from headrace_workers.features.files.file_service import Files
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.files.store.stored import StoredFiles

_SAMPLE = "{{sample.output_text}}"
_CRITERIA = [
    {"type": "string_check", "name": "right", "input": _SAMPLE, "reference": "{{item.answer}}", "operation": "eq"}
]
_RUNS = "SELECT sum(attempts), count(*) FROM steps WHERE stage = 'generate'"
_NO_TEXT, _NO_JSON = 70, 900  # rows that make no job
_PATIENCE = 3_600.0  # seconds: a bound for hangs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its items by their status, what it counted, how many batches there were, and how often the
    model's step ran for how many jobs.
    """

    state: str
    total: int
    statuses: Counter[str]
    tally: dict[str, Any]
    batches: int
    runs: int
    steps: int


def expected(rows: int) -> Counter[str]:
    wrong = len([number for number in range(0, rows, 3) if number not in (_NO_TEXT, _NO_JSON)])
    return Counter({"pass": rows - 2 - wrong, "fail": wrong, "error": 2})


def storm(deployment: Deployment, rows: int, kills: int, patience: float = 120.0) -> Outcome:
    """The bridge dies so often: first while items are written down, then in even steps while they are judged."""
    ledger = Ledger.at(deployment.ledger)
    run = _begun(ledger, Files(ledger.of(StoredFiles), Store.at(str(deployment.folder / "files"))), rows)

    def stands() -> Any:
        return ledger.of(Evals).run("eval_1", "evalrun_1", "a")

    def ended() -> int:
        counts = json.loads(stands().tally).get("counts", {})
        return int(counts.get("passed", 0) + counts.get("failed", 0))

    deployment.start("bridge", "generate", "moderate", "judge")
    eventually(lambda: ledger.of(Evals).count(run.number, None), patience)
    for kill in range(kills):
        eventually(lambda kill=kill: ended() >= kill * rows // (kills + 1), patience)
        deployment.kill("bridge")
        deployment.revive()
    eventually(lambda: stands().ended_at is not None or deployment.revive(), patience)
    found = stands()
    statuses: Counter[str] = Counter()
    after = None
    while page := ledger.of(Evals).items(run.number, after=after, limit=2_000).rows:
        statuses.update(row.status for row in page)
        after = page[-1].number
    ((runs, steps),) = query(deployment.watched, _RUNS)[0]
    batches = len(ledger.of(Batches).batches("a"))
    ledger.close()
    return Outcome(found.state, found.total, statuses, json.loads(found.tally), batches, int(runs), int(steps))


def _begun(ledger: Ledger, files: Files, rows: int) -> Any:
    """A run of so many rows; every third has a wrong answer, one cannot fill its template, one is no JSON."""
    lines = [json.dumps({"item": {"q": f"say {n}", "answer": f"say {n}" if n % 3 else "no"}}) for n in range(rows)]
    lines[_NO_TEXT], lines[_NO_JSON] = json.dumps({"item": {"answer": "x"}}), "{"
    file = files.add(["\n".join(lines).encode()], tenant="a", purpose="evals", name="rows.jsonl", keep=None)
    new = {"id": "eval_1", "tenant": "a", "name": "", "data_source_config": "{}", "metadata": "{}"}
    ledger.of(Evals).create(NewEval(**new, testing_criteria=json.dumps(_CRITERIA)))
    source = {
        "type": "completions", "model": "echo", "source": {"type": "file_id", "id": file.id},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]},
    }  # fmt: skip
    return ledger.of(Evals).start(
        "eval_1", "a", NewRun(id="evalrun_1", name="", data_source=json.dumps(source), metadata="{}")
    )


def holds(found: Outcome, rows: int) -> bool:
    """Whether each item has one end, is counted once, and was asked once."""
    wanted = expected(rows)
    counts = {"passed": wanted["pass"], "failed": wanted["fail"], "errored": wanted["error"]}
    asked = found.tally["models"]["echo"]["invocation_count"]
    return (
        (found.state, found.total, found.batches) == ("completed", rows, 1)
        and found.statuses == wanted
        and found.tally["counts"] == counts
        and asked == found.steps == found.runs == rows - 2
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.evals", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--embedded", action="store_true", help="the embedded services, whatever the machine has")
    options = parser.parse_args()
    if options.rows <= _NO_JSON:
        parser.error(f"--rows must be above {_NO_JSON}: that one makes no job, for one")
    with own_folder() as folder, Servers.found(folder, embedded=options.embedded) as servers:
        print(f"a run of {options.rows:,} rows, {options.kills} kills; stack: {servers.name}", flush=True)
        with closing(servers.deployment(folder)) as deployment:
            begun = time.monotonic()
            deployment.prepare()
            found = storm(deployment, options.rows, options.kills, _PATIENCE)
    print(f"{found}\n{time.monotonic() - begun:,.0f} s")
    whole = holds(found, options.rows)
    print("each item has one end, and was asked once" if whole else "THE RUN HAS NOT EACH ITEM ONCE")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
