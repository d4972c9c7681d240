"""Jobs that ask for the cache, from acceptance to their end, on each database."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.core.ledger.test_work import settings
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_value
from headrace_schemas.recall import CacheMode
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import MODEL_ROLE
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.auditing import Auditing
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.decisions.deciding import uncalibrated
from headrace_workers.features.generation.attempt import no_job
from headrace_workers.features.generation.stage import as_it_is
from headrace_workers.features.moderation.detector import Moderator
from headrace_workers.features.moderation.leak import UNMARKED
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.stage import no_tenant
from headrace_workers.features.moderation.step import SeenPrompts
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.engines.echo import EchoGenerator
from headrace_workers.models.verifiers.measured import no_fault
from headrace_workers.runtime.worker.work import Work

QUEUES = ("screen", "recall", "model.judge", "model.echo", "moderate", "judge")
MODERATOR = PolicyModerator([PersonalDataDetector()], load_policy(None))


@dataclass
class Flow:
    ledger: Ledger
    cache: Any
    retrieval: Any = None
    max_wait: float = 60.0
    audit_share: float = 0.0
    moderator: Moderator = MODERATOR
    screener: Moderator = MODERATOR
    judge: Any = None  # the model `judge`
    pipeline: Pipeline = field(default_factory=Pipeline)
    generator: Any = field(default_factory=lambda: EchoGenerator("echo"))
    generated: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.do()

    def do(self, without: str | None = None) -> None:
        """From now on, do the work of all roles that answer, or of all but one."""
        pipeline = self.pipeline
        needs = {
            "generator": lambda: self.generator, "moderator": lambda: self.moderator, "canaries": lambda: UNMARKED,
            "shown": lambda: as_it_is,
            "cancelled": lambda: no_job, "health": lambda: None, "temperatures": lambda: uncalibrated,
            "cache": lambda: self.cache, "earlier": lambda: None,
            "screener": lambda: self.screener, "seen_prompts": SeenPrompts, "trusts_system": lambda: no_tenant,
            "retrieval": lambda: self.retrieval, "passage_screener": lambda: lambda: self.screener,
            "cache_mode": lambda: CacheMode.OFF,
            "cache_ttl": lambda: 3_600.0, "max_wait": lambda: self.max_wait,
            "auditing": lambda: Auditing(pipeline, self.audit_share), "embedder": lambda: HashEmbedder,
            "embedder_alias": lambda: "hash", "claim_verifier": lambda: None,
            "judge_fault": lambda: no_fault,
            "audit_texts": lambda: self.ledger.of(Audits).texts,
        }  # fmt: skip
        steps = pipeline.steps_of(set(pipeline.roles) - {without, "deliver", "tune"}, "echo", needs)
        if self.judge is not None:
            steps |= pipeline.steps_of({MODEL_ROLE}, "judge", {**needs, "generator": lambda: self.judge})
        self.work = Work(pipeline, steps, settings(), SystemClock())

    def send(self, *jobs: GenerationJob) -> list[str]:
        return take_in(self.ledger, list(jobs))

    def run(self, queue: str, lane: int = 0) -> int:
        """Run all groups of a queue that are ready; how many jobs."""
        ran = 0
        while claims := self.ledger.claim([Wanted(queue, lane, 1, 256)], lease_ms=60_000, sender="b").claims:
            started = self.ledger.start(claims[0].id, worker="w", lease_ms=60_000)
            assert started is not None
            if queue.startswith("model."):
                self.generated += [row.job_id for row in started.steps]
            settled = self.work.do(started)
            assert self.ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None
            ran += len(started.steps)
        return ran

    def drain(self, lane: int = 0) -> None:
        """Run everything until nothing is ready."""
        while sum(self.run(queue, lane) for queue in QUEUES):
            pass

    def result(self, job_id: str) -> Any:
        """The event that ended a job; None while it has none."""
        (row,) = self.ledger.read(select(JOBS.c.terminal_type, JOBS.c.terminal).where(JOBS.c.id == job_id))
        return None if row.terminal is None else decode_value(row.terminal_type, row.terminal)

    def states(self, job_ids: Iterable[str], stage: str = "recall") -> list[str]:
        """The state of a stage's step of each job."""
        rows = self.ledger.read(select(STEPS.c.job_id, STEPS.c.state).where(STEPS.c.stage == stage))
        found = {row.job_id: row.state for row in rows}
        return [found[job_id] for job_id in job_ids]


@pytest.fixture
def flow(ledger: Ledger) -> Flow:  # noqa: F811 - the fixture
    return Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1"))


@pytest.fixture
def asks() -> Callable[..., GenerationJob]:
    def make(prompt: str = "Name a river.", cache: str = "exact", **more: object) -> GenerationJob:
        return GenerationJob.model_validate({"model": "echo", "prompt": prompt, "cache": cache, **more})

    return make


def tiers(flow: Flow, job_ids: Sequence[str]) -> list[str]:
    """Where the answers of these jobs came from."""
    return [flow.result(job_id).answer.recall.tier.value for job_id in job_ids]
