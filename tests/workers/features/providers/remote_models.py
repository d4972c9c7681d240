"""Providers of models on this machine, and a deployment whose catalogue names them."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.services import provider as services
from tests.services.provider import Reply
from tests.workers.runtime.bridge.records import accept, record
from tests.workers.tasks_in_memory import Tasks

from headrace_producers import KafkaSettings
from headrace_schemas import DeadLetter, EvaluationJob, GenerationJob, Result
from headrace_schemas.codec import decode_value
from headrace_workers.core.admission import AdmissionRules, admission_rules
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import MODEL_ROLE, Step, installed_stages
from headrace_workers.core.progress import Progress
from headrace_workers.core.tables import JOBS
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.generation.attempt import no_job
from headrace_workers.features.generation.store.model_generations import model_versions
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.assignment import Assigner, FollowUp
from headrace_workers.runtime.worker.claim_run import Runner
from headrace_workers.runtime.worker.parts import WorkerParts
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import Runs
from headrace_workers.runtime.worker.work import Work
from headrace_workers.wiring.parts import admission_parts

SECRET = "The parcel of Ms Roe is late."


class Provider(services.Provider):
    """A provider with an OpenAI-compatible endpoint, which keeps all that it was sent."""

    def __init__(self) -> None:
        self.says: Callable[[str], str] = lambda _asked: "It will come."
        self.returned = "model-1"
        self.status = 200
        super().__init__(lambda _provider, reply: self._reply(reply))

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    @property
    def seen(self) -> list[str]:
        """Return the messages of all requests."""
        return [json.dumps(heard.body["messages"], ensure_ascii=False) for heard in self.heard]

    def _reply(self, reply: Reply) -> None:
        if self.status != 200:
            reply.status(self.status, {"error": {"message": "not now"}})
            return
        reply.model = self.returned
        reply.start()
        reply.text(self.says(reply.heard.asked))
        reply.end()


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that runs until the end of the block."""
    found = Provider()
    try:
        yield found
    finally:
        found.close()


def write_catalogue(home: Path, models: Mapping[str, tuple[str, Provider]], **chains: list[str]) -> None:
    """Write a catalogue with these models, by alias: the provider's name, and who answers."""
    lines = [
        f'[models.{alias}]\nengine = "openai"\nmodel = "{alias}"\nprovider = "{name}"\nendpoint = "{at.url}"\n'
        "context_length = 8000\n"
        for alias, (name, at) in models.items()
    ]
    lines += [f"[chains.{name}]\nmodels = {json.dumps(chain)}\n" for name, chain in chains.items()]
    home.mkdir(exist_ok=True)
    (home / "models.toml").write_text("\n".join(lines))


class Deployment:
    """The rules and the workers of a deployment with this home, without Kafka and without Redis."""

    def __init__(self, ledger: Ledger, home: Path, judge_model: str | None = None) -> None:
        self.ledger = ledger
        self.settings = Settings(home=home, kafka=KafkaSettings.at("none:1"), redis="redis://none:1/0", ledger="")
        self.pipeline = Pipeline(installed_stages(self.settings), judge_model=judge_model)
        self.rules: AdmissionRules = admission_rules(admission_parts(self.settings, ledger, self.pipeline))
        self._registry = Registry(home)
        self._steps: dict[tuple[str, str], Step] | None = None

    def send(self, job: GenerationJob | EvaluationJob) -> NewJob | Burial:
        """Take in a job as a bridge does; the refusal where it is refused."""
        found = accept(record(job), self.rules)
        assert isinstance(found, NewJob | Burial)
        self.ledger.ingest([found] if isinstance(found, NewJob) else [], [found] if isinstance(found, Burial) else [])
        return found

    def take_in(self, job: GenerationJob | EvaluationJob) -> str:
        """Take in a job that is accepted; its id."""
        found = self.send(job)
        assert isinstance(found, NewJob), found
        return found.id

    def run(self, rounds: int = 20) -> None:
        """Let workers of all models and of all other light work do what there is to do, until nothing is left."""
        for _ in range(rounds):
            ran = False
            for queue in self.pipeline.queues(self._registry.served()):
                for lane in (0, 1):
                    claims = self.ledger.claim([Wanted(queue.name, lane, 1, 32)], lease_ms=60_000, sender="b").claims
                    for claim in claims:
                        ran = True
                        self._runner().run(claim.id)
            if not ran:
                return

    def end(self, job_id: str) -> Result | DeadLetter:
        query = select(JOBS.c.terminal_type, JOBS.c.terminal).where(JOBS.c.id == job_id)
        (row,) = self.ledger.read(query)
        value = decode_value(row.terminal_type, row.terminal)
        assert isinstance(value, Result | DeadLetter)
        return value

    def answered(self, job: GenerationJob | EvaluationJob) -> Result:
        job_id = self.take_in(job)
        self.run()
        found = self.end(job_id)
        assert isinstance(found, Result), found
        return found

    def _runner(self) -> Runner:
        if self._steps is None:
            self._steps = {}
            for model in self._registry.served():
                parts = WorkerParts(
                    name="w", settings=self.settings, pipeline=self.pipeline, ledger=self.ledger,
                    progress=Progress(), model=model.alias,
                )  # fmt: skip
                build: dict[str, Any] = {
                    **parts.of_features(), "cancelled": lambda: no_job, "retrieval": lambda: None,
                    "embedder": lambda: HashEmbedder, "embedder_alias": lambda: "hash", "claim_verifier": lambda: None,
                    "cache": lambda: AnswerLookup(self.ledger, model_versions(self._registry, self.ledger, 0.0)),
                }  # fmt: skip
                roles = {MODEL_ROLE, "recall", "moderate", "judge"}
                self._steps |= self.pipeline.steps_of(roles, model.alias, build)
        settings, progress = self.settings, Progress()
        runs = Runs(progress, self.pipeline, settings.longest_run)
        assigner = Assigner(ledger=self.ledger, tasks=Tasks(waiting=99), sender="w", depth=0, lease_ms=60_000)
        return Runner(
            ledger=self.ledger, work=Work(self.pipeline, self._steps, settings, SystemClock()), settings=settings,
            notifier=_Silent(), clock=SystemClock(), progress=progress, worker="w",
            renewer=Renewer(self.ledger, settings.lease_ms, progress.loop("renew"), runs, _Silent()), runs=runs,
            assigner=assigner, follow_up=FollowUp(ledger=self.ledger, units=Following().units, assigner=assigner),
        )  # fmt: skip


class _Silent:
    def notify(self, *_hints: object) -> None:
        """Tell nobody."""
