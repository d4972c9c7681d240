"""Skipping of optional stages: jobs pass a stage that no worker runs if they can do without it. Others wait, and their
status names the missing worker.
"""

import logging
from collections.abc import Callable
from typing import Any

from headrace_schemas import HeadraceError
from headrace_schemas.codec import decode_job
from headrace_schemas.job import Job
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.unserved_steps import Move, Stay
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.chain import with_chain
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.core.pipeline.task import pack, unpack

_LONGEST_MS = 1_500  # that something waits before anybody asks whether there is a worker


class StageSkipper:
    """Mover of jobs that wait at their first stage for a worker that is missing and that they can do without; for the
    others it notes what they wait for. It ignores what a model runs. `served` returns which of these queues have a
    worker.
    """

    def __init__(
        self, *, ledger: Ledger, pipeline: Pipeline, served: Callable[[list[str]], frozenset[str] | None]
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._served = served
        self._first = [stage for stage in pipeline.stages if _is_first(stage)]

    def once(self) -> int:
        """Look once; how many jobs went on."""
        late = [stage for stage in self._first if self._ledger.waits(stage.queue(), _LONGEST_MS)]
        if not late:
            return 0
        served = self._served([stage.queue() for stage in late])
        if served is None:  # Redis is unavailable, so the answer is unknown
            return 0
        return sum(self._pass(stage) for stage in late if stage.queue() not in served)

    def _pass(self, stage: Stage) -> int:
        reason = f"{_nobody(stage)}, which this job needs: `headrace worker --role {stage.role}` starts one"
        moved = self._ledger.move_on(stage.name, stage.queue(), lambda row: self._move(stage, row), reason)
        if moved:
            log("reap", logging.WARNING, Action.PASSED_OVER,
                f"no worker with --role {stage.role} runs: jobs went on without", jobs=moved)  # fmt: skip
        return moved

    def _move(self, stage: Stage, row: Any) -> Move | Stay | None:
        try:
            context, unpublished = unpack(row.context)
            job = with_chain(decode_job(row.kind, row.payload), context)
        except HeadraceError:  # a newer version's: its own bridge and workers know what to do
            return None
        if not stage.optional(job):
            return Stay(row.job_id, row.ordinal)
        route = self._pipeline.next_step(row.job_id, job, job, after=stage.name)
        if route is None:
            return None
        changed = pack({**context, stage.name: {"refused": _nobody(stage)}}, unpublished)
        return Move(row.job_id, row.ordinal, route.stage.name, route.queue, route.group, changed, route.prefix)


def _is_first(stage: Stage) -> bool:
    """Return True if jobs begin here, and no model runs it."""
    return stage.weight is not Weight.MODEL and any(issubclass(kind, Job) for kind in stage.takes)


def _nobody(stage: Stage) -> str:
    return f"no worker with the role {stage.role} was running"
