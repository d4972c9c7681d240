"""The part of a bridge that gives out work, in a thread: dispatch, reaping and rerouting, without Kafka."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import select
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import accept, record
from tests.workers.serving import NAMES, tasks_of

from headrace_schemas import GenerationJob, Output
from headrace_schemas.codec import decode_value
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.outage import OUTAGE_ERRORS
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.redis import live_queues, redis_client
from headrace_workers.core.tables import STEPS
from headrace_workers.features.generation.admission import PromptCheck
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.features.generation.rerouting import Rerouting
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.bridge.dispatch import Dispatch

_EVERY = 0.02


class SmallBridge:
    """Use it as a context: it works until its end. `send` takes jobs in by the rules of this home."""

    def __init__(self, ledger: Ledger, home: Path, redis_url: str) -> None:
        registry, breakers = Registry(home), KnownBreakers(ledger)
        pipeline = Pipeline(avoided=breakers.avoided)
        models = CountingModels(home, registry)
        self._ledger = ledger
        self._rules = AdmissionRules(models, pipeline, (PromptCheck(models),))
        self._dispatch = Dispatch(
            ledger=ledger, tasks=tasks_of(ledger, redis_url), pipeline=pipeline, models=registry.served, bridge="b",
            lease_ms=3_000, group_size=8, depth=2, linger_ms=0, limits=breakers.groups,
        )  # fmt: skip
        self._rerouting = Rerouting(
            ledger=ledger, pipeline=pipeline, breakers=breakers, models=registry.aliases,
            live=partial(live_queues, redis_client(redis_url), NAMES), clock=SystemClock(),
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "SmallBridge":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            for act in (partial(self._ledger.reap, 3), self._dispatch.once, self._rerouting.once):
                with suppress(*OUTAGE_ERRORS):
                    act()

    def send(self, jobs: Sequence[GenerationJob]) -> list[str]:
        return take_in(self._ledger, jobs, self._rules)

    def made(self, jobs: Sequence[GenerationJob]) -> list[NewJob]:
        """These jobs as they would be taken in."""
        return [new for job in jobs if isinstance(new := accept(record(job), self._rules), NewJob)]

    def outputs(self, job_ids: Sequence[str]) -> dict[str, Output]:
        query = select(STEPS.c.job_id, STEPS.c.event_type, STEPS.c.payload).where(STEPS.c.stage == "moderate")
        found = {row.job_id: decode_value(row.event_type, row.payload) for row in self._ledger.read(query)}
        return {job_id: found[job_id] for job_id in job_ids if isinstance(found.get(job_id), Output)}
