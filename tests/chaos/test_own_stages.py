"""Stages that nobody has heard of outside this file: each is one step function and one `Stage`.

They run in the real bridge and real workers, over production's services and over the embedded ones, while those are
killed. The processes are this file, too: it is run as a program, which hands its own pipeline to the product.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from itertools import dropwhile
from pathlib import Path
from uuid import uuid4

import pytest
from tests.chaos.deployment import MODEL, over
from tests.chaos.history import History, query
from tests.chaos.mid_run import fresh_key, history_of, prompts
from tests.chaos.rules import check
from tests.chaos.stacks import PRODUCTION, services_of
from tests.workers.core.ledger.after import units_after

from headrace_schemas import GenerationJob, Output
from headrace_schemas.codec import decode_value
from headrace_workers.core.feature import Feature, install
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Held, JobEnd, Retry, Wait
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import RetrySchedule, Stage, Weight
from headrace_workers.core.tables import RELEASED
from headrace_workers.runtime.bridge.bridge import all_duties
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.build_bridge import build_bridge
from headrace_workers.wiring.build_worker import serve
from headrace_workers.wiring.features import FEATURES

pytestmark = pytest.mark.chaos


def asks_for(name):
    return lambda job, _event: name in job.metadata


def follow(tasks):
    """Wait for the end of the job that one's metadata names; that it was waited for goes on with the job."""
    return [
        Done(context={"behind": task.woken_by})
        if task.woken_by
        else Wait(JobEnd(task.job.metadata["behind"]), "it comes first")
        for task in tasks
    ]


def again(tasks):
    return [Done(to="generate") if task.ordinal == 0 else Done() for task in tasks]


def shout(tasks):
    return [Done(louder(task.event, task.context.get("behind", ""))) for task in tasks]


def louder(output, behind):
    text = f"{output.answer.text.upper()} {behind}".strip()
    return output.model_copy(update={"answer": output.answer.model_copy(update={"text": text})})


def hold(tasks):
    """Let nothing pass before a person has released it."""
    return [Done() if task.woken_by == RELEASED else Held("somebody must look") for task in tasks]


def tell(units):
    return [Done() if unit.attempt > 1 else Retry("503") for unit in units]


def listeners(event, job):
    return [f"{job.metadata.get('shout', 'plain')}.example", "all.example"] if job else []


GENERATE, *REST = dropwhile(lambda stage: stage.name != "generate", Pipeline().stages)
OWN = Pipeline(
    (
        Stage(name="follow", order=35, takes=(GenerationJob,), step=follow, when=asks_for("behind")),
        GENERATE,
        Stage(name="again", order=42, takes=(Output,), step=again, when=asks_for("again")),
        Stage(name="shout", order=44, takes=(Output,), step=shout, when=asks_for("shout")),
        Stage(name="hold", order=46, takes=(Output,), step=hold, when=asks_for("hold")),
        *REST,
        Stage(name="after", order=1_000, step=tell, weight=Weight.IO,
              retry=RetrySchedule(first=0.1, longest=0.1, attempts=20)),
    )
)  # fmt: skip
FEATURE = Feature(name="own", follows=lambda _settings, ledger, _believed: units_after(ledger, listeners))
LIGHT = [role for role in OWN.roles if role != "generate"]
ROLES = {
    "bridge": ("bridge",),
    "generate": ("generate",),
    "light": tuple(LIGHT),
    "some": ("moderate", "shout", "after"),
}


@pytest.fixture(params=[PRODUCTION])
def deployment(request, service_folder):
    broker, redis, postgres = services_of(request)
    made = over(
        broker,
        redis,
        postgres,
        service_folder,
        "own",
        program=(sys.executable, "-m", "tests.chaos.test_own_stages"),
        roles=ROLES,
    )
    root = str(Path(__file__).parents[2])
    made.extra = {role: {"PYTHONPATH": root} for role in ROLES}
    made.prepare()
    made.start()
    yield made
    made.close()


@pytest.mark.slow
def test_stages_of_ones_own_hold_under_kills(deployment):
    key = fresh_key("own")
    first = deployment.publish(prompts(20, 0.02), f"{key}-plain")
    behind = deployment.publish(prompts(10), f"{key}-behind", metadata={"behind": first[-1], "shout": "s"})
    twice = deployment.publish(prompts(10), f"{key}-again", metadata={"again": "yes"})
    loud = deployment.publish(prompts(10), f"{key}-loud", metadata={"shout": "s", "again": "yes"})
    held = deployment.publish(prompts(5), f"{key}-held", metadata={"hold": "yes"})
    # These wait for a job that never comes: only a cancellation ends them.
    lost = deployment.publish(prompts(3), f"{key}-lost", metadata={"behind": str(uuid4())})
    ids = [*first, *behind, *twice, *loud, *held, *lost]
    kill_each(deployment)
    release(deployment, held)
    kill_each(deployment)
    deployment.wait_until(lambda: states(deployment, lost) == {"parked"}, "the lost wait")
    with deployment.producer() as producer:
        for job_id in lost:
            producer.cancel(job_id, reason="nobody comes")
    deployment.wait_quiet(ids)

    history = history_of(deployment, ids)
    tally = check(history)
    # Each Output of a job is an event of its own here, and no repeat.
    assert outputs(history) == {job: 3 if job in loud else 2 for job in (*behind, *twice, *loud)}
    tally.violations["one_event_per_stage"] = [
        each for each in tally.violations["one_event_per_stage"] if " on outputs: " not in each
    ]
    assert tally.holds, f"\n{tally}"
    assert (tally.counts["  answered"], tally.counts["  cancelled"]) == (55, 3), f"\n{tally}"
    assert ways(history) == Counter({
        "generate moderate judge": 20,
        "follow generate shout moderate judge": 10,
        "generate again generate again moderate judge": 10,
        "generate again generate again shout moderate judge": 10,
        "generate hold moderate judge": 5,
    })  # fmt: skip
    assert said_behind(history, behind) == {first[-1]}
    assert units(deployment) == {(job, place) for job in ids for place in places(job, {*behind, *loud})}


def kill_each(deployment):
    """SIGKILL to each process in turn, while there is work."""
    for name in ROLES:
        time.sleep(0.3)
        deployment.kill(name)
        deployment.revive()


def release(deployment, held):
    """Release what is held, when all of it is."""
    deployment.wait_until(lambda: states(deployment, held) == {"held"}, "they are held")
    ledger = Ledger.at(deployment.watched)
    assert {row.job_id for row in ledger.held()} == set(held)
    assert ledger.release_held(held) == len(held)
    ledger.close()


def states(deployment, jobs):
    """The states of the newest steps of these jobs that are not done."""
    rows = query(deployment.watched, "SELECT job_id, state FROM steps WHERE state <> 'done'")[0]
    found = [state for job, state in rows if job in jobs]
    return set(found) if len(found) == len(jobs) else set()


def outputs(history: History):
    """How many Outputs there are of the jobs that have more than one."""
    seen = Counter(job for job, _ in {(e.job_id, e.id) for e in history.events if e.topic == "outputs"})
    return {job: count for job, count in seen.items() if count > 1}


def results(history: History):
    return [decode_value(row.terminal_type, row.terminal) for row in history.jobs if row.state == "done"]


def ways(history: History):
    """How many jobs went which way, by the records of their receipts."""
    return Counter(" ".join(record.stage for record in receipt.stages) for receipt in results(history))


def said_behind(history: History, jobs):
    return {receipt.answer.text.rsplit(maxsplit=1)[-1] for receipt in results(history) if receipt.job_id in jobs}


def units(deployment):
    """Subject and endpoint of each unit that was done."""
    rows = query(deployment.watched, "SELECT subject, endpoint, state FROM jobs WHERE kind = 'unit'")[0]
    assert {state for *_, state in rows} == {"done"}
    assert len(rows) == len({(subject, endpoint) for subject, endpoint, _ in rows})
    return {(subject, endpoint) for subject, endpoint, _ in rows}


def places(job, shouting):
    return ("s.example" if job in shouting else "plain.example", "all.example")


def main(words):
    """A process of this deployment: `bridge`, or a worker of these roles."""
    install((*FEATURES, FEATURE))
    settings = Settings.from_env()
    if words == ["bridge"]:
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        with watched("bridge", settings) as progress:
            build_bridge(settings, frozenset(all_duties()), progress, OWN).run(stop)
        return 0
    roles = OWN.roles_of(words)
    with watched("worker", settings) as progress:
        return serve(settings, roles, MODEL if "generate" in roles else None, progress, pipeline=OWN)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
