"""A runner on a real ledger, with steps of the tests' own."""

from pathlib import Path

from sqlalchemy import select, update
from tests.workers.ledger_jobs import claim_one
from tests.workers.tasks_in_memory import Tasks

from headrace_producers import KafkaSettings
from headrace_schemas import (
    Answer,
    Output,
    Usage,
)
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.assignment import Assigner, FollowUp
from headrace_workers.runtime.worker.claim_run import Runner
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import Runs
from headrace_workers.runtime.worker.work import Work


class Notifier:
    def __init__(self) -> None:
        self.sent = []

    def notify(self, *hints) -> None:
        self.sent += hints


def runner(ledger, step, tasks=None, notifier=None, clock=None, units=None, **settings):
    """A runner whose steps on the model's queue, and where texts are embedded, are this one. `units` says what follows
    from ends: nothing by default.
    """
    settings = Settings(home=Path(), kafka=KafkaSettings.at("none:1"), redis="redis://none:1/0", ledger="", **settings)
    steps = dict.fromkeys((("model.echo", "generate"), ("model.echo", "rubric"), ("embed", "embed")), step)
    runs, notifier = Runs(Progress(), Pipeline(), settings.longest_run), notifier or Notifier()
    assigner = Assigner(ledger=ledger, tasks=tasks or Tasks(waiting=99), sender="w", depth=2, lease_ms=60_000)
    return Runner(
        ledger=ledger, work=Work(Pipeline(), steps, settings, SystemClock()), settings=settings,
        notifier=notifier, clock=clock or SystemClock(), progress=Progress(), worker="w",
        renewer=Renewer(ledger, settings.lease_ms, Progress().loop("renew"), runs, notifier), runs=runs,
        assigner=assigner,
        follow_up=FollowUp(
            ledger=ledger, units=units or Following().units, assigner=assigner
        ),
    )  # fmt: skip


def answered(task):
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    answer = Answer(text="t", finish_reason="stop", model="echo", quantization="none", usage=usage)
    return Done(Output(job_id=task.job_id, tenant="default", answer=answer))


def answer_all(tasks):
    return [answered(task) for task in tasks]


def states(ledger):
    """Job, stage and state of each step."""
    return {(r.job_id, r.stage): r.state for r in ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state))}


def run_all(ledger, step, **settings):
    claim = claim_one(ledger)
    runner(ledger, step, **settings).run(claim.id)
    return claim


def run_out(ledger):
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=0))


def crashes(ledger):
    """How many are counted against all steps."""
    return sum(row.crashes for row in ledger.read(select(STEPS.c.crashes)))
