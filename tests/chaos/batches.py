"""A batch whose bridges and model worker are killed: `python -m tests.chaos.batches --lines 40000 --kills 20`.

Exit code 0 when each line has one end, in the files, the ledger and on Kafka, and at most a hundredth of the work was
done more than once; 1 otherwise.
"""

import argparse
import json
import random
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass

from tests.chaos.deployment import Deployment
from tests.chaos.history import query, read_history
from tests.chaos.rules import Tally, check
from tests.chaos.servers import Servers, own_folder
from tests.services.eventually import eventually

from headrace_schemas.job import derive_job_id
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles

BRIDGES = ("bridge", "bridge-2")
MOST_REPEATED = 0.01  # of the work
_RUNS = "SELECT sum(attempts), count(*) FROM steps WHERE stage = 'generate'"
_PATIENCE = 3_600.0  # seconds that the long run waits for the next kill's moment: a bound for hangs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: lines by their numbers in each file, the ends on Kafka beside the ledger's, and how many runs
    of the model's step there were beyond one a line.
    """

    state: str
    answered: Counter[int]
    failed: Counter[int]
    tally: Tally
    repeated: int


def prepare(deployment: Deployment) -> None:
    """Before it is started: windows that are small beside the batch."""
    deployment.prepare()
    for name in BRIDGES:
        deployment.extra[name] = {"HEADRACE_MAX_ACTIVE": "800"}  # batches have half of it


def storm(deployment: Deployment, lines: list[str], kills: int, seed: int, patience: float = 120.0) -> Outcome:
    """So many kills, spread over the batch of these lines; each fourth is the model worker's, the others a bridge's."""
    ledger = Ledger.at(deployment.ledger)
    files = Files(ledger.of(StoredFiles), Store.at(str(deployment.folder / "files")))
    data = "\n".join(lines).encode()
    file = files.add([data], tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True)
    wishes = BatchOptions(tenant="a", defaults=Defaults("echo", {"tenant": "a", "lane": "batch"}))
    batch, _ = submit(ledger, file, wishes, key="once")
    deployment.start(*BRIDGES, "generate", "moderate", "judge")
    chance = random.Random(seed)

    def done() -> int:
        row = ledger.of(Batches).batch(batch.id)
        assert row is not None
        return int(row.completed + row.failed)

    for kill in range(1, kills + 1):
        eventually(lambda kill=kill: done() >= min(len(lines) - 1, kill * len(lines) // (kills + 4)), patience)
        deployment.kill(chance.choice(BRIDGES) if kill % 4 else "generate")
        deployment.revive()
    eventually(lambda: ledger.of(Batches).batch(batch.id).ended_at is not None or deployment.revive(), patience)  # type: ignore[union-attr]
    deployment.wait_quiet([])

    ended = ledger.of(Batches).batch(batch.id)
    assert ended is not None
    answered, failed = (_numbers(files, file_id) for file_id in (ended.output_file, ended.error_file))
    ids = [derive_job_id("a", f"batch:{batch.id}:{number}") for number in answered]
    history = read_history(
        bootstrap=deployment.kafka, prefix=deployment.prefix, ledger=deployment.watched, published=ids, forbidden=()
    )
    ((runs, steps),) = query(deployment.watched, _RUNS)[0]
    ledger.close()
    return Outcome(ended.state, answered, failed, check(history), int(runs) - int(steps))


def _numbers(files: Files, file_id: str | None) -> Counter[int]:
    text = b"" if file_id is None else b"".join(files.chunks(file_id))
    return Counter(json.loads(line)["line"] for line in text.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.batches", description=__doc__)
    parser.add_argument("--lines", type=int, default=40_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7, help="which bridge is killed")
    parser.add_argument("--embedded", action="store_true", help="the embedded services, whatever the machine has")
    options = parser.parse_args()
    with own_folder() as folder, Servers.found(folder, embedded=options.embedded) as servers:
        print(f"a batch of {options.lines:,} lines, {options.kills} kills; stack: {servers.name}", flush=True)
        with closing(servers.deployment(folder)) as deployment:
            prepare(deployment)
            lines = [json.dumps({"prompt": f"line {number}"}) for number in range(options.lines)]
            outcome = storm(deployment, lines, options.kills, options.seed, _PATIENCE)
    share = outcome.repeated / options.lines
    print(outcome.tally)
    print(f"done more than once: {outcome.repeated:,} of {options.lines:,} ({share:.2%}; {MOST_REPEATED:.0%} at most)")
    whole = outcome.answered == Counter(range(1, options.lines + 1)) and not outcome.failed
    print("each line is in the output once" if whole else "THE OUTPUT HAS NOT EACH LINE ONCE")
    return 0 if whole and outcome.tally.holds and share <= MOST_REPEATED else 1


if __name__ == "__main__":
    sys.exit(main())
