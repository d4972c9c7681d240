"""Tuning jobs: what each stage does, and what becomes of a run whose worker dies, ends or loses the job."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.tables import sqlite_tables
from tests.workers.features.tuning.tiny_base import examples
from tests.workers.ledger_jobs import claim_one, take_in

from headrace_schemas import Message, Sampling, TuningJob
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.completion import RunOver
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.files.file_service import files_in
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.generation.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.features.generation.generator import Completion, Request
from headrace_workers.features.generation.models import registry
from headrace_workers.features.tuning import training, tuner
from headrace_workers.features.tuning.recipe import SOURCES_FILE
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.features.tuning.tuner import Tuner
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.worker.work import Work

pytestmark = [pytest.mark.slow]  # torch takes seconds to import


class Deployment:
    """A ledger, a store of files and workers, which run what is ready in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ledger = Ledger.at(sqlite_tables(home / "ledger.db"))
        self.settings = Settings.from_env(
            {
                "HEADRACE_HOME": str(home),
                "HEADRACE_LEDGER": "sqlite:///none",
                "HEADRACE_KAFKA": "localhost:1",
                "HEADRACE_REDIS": "redis://localhost:1",
            }
        )
        self.files = files_in(self.settings, self.ledger)
        self.leaving = threading.Event()
        self.tuners: list[Tuner] = []

    def upload(self, records: list[Any], tenant: str = "shop") -> str:
        """Store a file of examples; its id."""
        lines = [json.dumps(record).encode() + b"\n" for record in records]
        row = self.files.add(lines, tenant=tenant, purpose="fine-tune", name="data.jsonl", keep=None)
        return str(row.id)

    def submit(self, **values: Any) -> str:
        """Take a job in that tunes the base; its id."""
        known = {
            "tenant": "shop",
            "idempotency_key": "one",
            "model": "tiny",
            "epochs": 2,
            "learning_rate_multiplier": 50.0,
        }
        (job_id,) = take_in(self.ledger, [TuningJob(**(known | values))])
        return job_id

    def worker(self, host: str = "here", home: Path | None = None) -> Tuner:
        """Another worker's tuner."""
        store = Store.at(str(self.home / "files"))
        found = Tuner(home or self.home, self.ledger, self.files, store, host)
        self.tuners.append(found)
        return found

    def step(self, worker: Tuner, cancelled: Callable[[str], bool] = lambda _job_id: False) -> str | None:
        """Run what is ready on this worker; the stage, or None if nothing was."""
        pipeline = Pipeline()
        parts = {"tuner": lambda: worker, "cancelled": lambda: cancelled, "leaving": lambda: self.leaving}
        steps = pipeline.steps_of({"tune"}, None, parts)
        work = Work(pipeline, steps, self.settings, SystemClock())
        claim = claim_one(self.ledger, "tune")
        if claim is None:
            return None
        started = self.ledger.start(claim.id, worker="w", lease_ms=30_000)
        assert started is not None
        assert len(started.steps) == 1
        self.ledger.complete_together([RunOver(claim.id, work.do(started), 1, 15_000)], None)
        return claim.stage

    def to_end(self, worker: Tuner) -> list[str]:
        """Run until nothing is ready; the stages that ran."""
        return list(iter(lambda: self.step(worker), None))  # type: ignore[arg-type]

    def run(self, job_id: str) -> Any:
        """The row of a run."""
        return self.ledger.of(TuningRuns).run(job_id)

    def messages(self, job_id: str) -> list[str]:
        """What is told of a run, oldest first."""
        return [row.message for row in reversed(self.ledger.of(TuningRuns).events(self.run(job_id).number))]


@pytest.fixture
def deployment(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment that may tune the base. A segment ends at each checkpoint, of which there is one a step."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(tuner, "SEGMENT_SECONDS", 0.0)
    (home / SOURCES_FILE).write_text('[sources]\ntiny = "source"\n')
    deployment = Deployment(home)
    yield deployment
    for worker in deployment.tuners:
        worker.stop()
    deployment.ledger.close()


def test_a_job_tunes_a_model_in_segments_and_the_model_answers(deployment: Deployment) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    stages = deployment.to_end(deployment.worker())
    row = deployment.run(job_id)
    assert row.state == "succeeded", row.error
    assert stages[0] == "prepare"
    assert stages[-2:] == ["check", "publish"]
    assert stages.count("train") > 3
    (alias,) = json.loads(row.aliases)
    folder = registry.model_dir(deployment.home, alias)
    assert registry.read_card(folder).tenant == "shop"
    answer = CTranslate2Generator.load(folder, device="cpu").generate(
        [Request((Message(role="user", content="3 fig"),), Sampling(max_tokens=4))]
    )[0]
    assert isinstance(answer, Completion)
