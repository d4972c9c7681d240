"""Tuning jobs: what each stage does, and what becomes of a run whose worker dies, ends or loses the job."""

import hashlib
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.services.tables import sqlite_tables
from tests.workers.core.ledger.budget_deployment import Given, books, costs
from tests.workers.features.tuning import forked
from tests.workers.features.tuning.tiny_base import examples
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import ALL_EXISTS, rules_of

from headrace_schemas import Message, Sampling, TuningJob
from headrace_schemas.errors import UnknownModel
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.charges import Price
from headrace_workers.core.ledger.completion import RunOver
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Wait
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import IS_READY, STEPS
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.tuning import training, tuner
from headrace_workers.features.tuning.copies import ModelInUse, deletable, sync_copy
from headrace_workers.features.tuning.network import CHECKPOINTS, ORDERS, step_of
from headrace_workers.features.tuning.recipe import SOURCES_FILE
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.features.tuning.tuner import Tuner, tuner_of
from headrace_workers.files.object_store import Store, StoreUnavailable
from headrace_workers.files.service import files_in
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.models import registry
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request
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
        self.files = files_in(self.settings.home, self.settings, self.ledger)
        rules = rules_of(ALL_EXISTS, models=CountingModels(home, registry.Registry(home)))
        self.leaving = threading.Event()
        self.prices = Given(tiny=Price("USD", input=333_333))  # not whole for any number of tokens
        self.rules = replace(rules, pipeline=Pipeline(prices=self.prices))
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
        (job_id,) = take_in(self.ledger, [TuningJob(**(known | values))], self.rules)
        return job_id

    def worker(self, host: str = "here", home: Path | None = None) -> Tuner:
        """Another worker's tuner."""
        store = Store.at(str(self.home / "files"))
        found = Tuner(home or self.home, self.ledger, self.files, store, host)
        self.tuners.append(found)
        return found

    def step(self, worker: Tuner, cancelled: Callable[[str], bool] = lambda _job_id: False) -> str | None:
        """Run what is ready on this worker; the stage, or None if nothing was."""
        pipeline = Pipeline(prices=self.prices)
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

    def events(self, job_id: str) -> list[Any]:
        """What is told of a run, oldest first."""
        return list(reversed(self.ledger.of(TuningRuns).events(self.run(job_id).number, None, 10_000)))

    def messages(self, job_id: str) -> list[str]:
        """The same, without figures."""
        return [row.message for row in self.events(job_id)]

    def reason(self, job_id: str) -> str:
        """Why a job waits."""
        query = select(STEPS.c.reason).where(STEPS.c.job_id == job_id, STEPS.c.ended_at.is_(None))
        return str(self.ledger.read(query)[0].reason)

    def next_stage(self) -> str | None:
        """The stage that a job is ready for."""
        return next((row.stage for row in self.ledger.read(select(STEPS.c.stage).where(IS_READY))), None)

    def price(self, job_id: str) -> int:
        """What all tokens of a run cost that was prepared."""
        (orders,) = self.home.glob(f"tuning/*/{ORDERS}")
        return -(-333_333 * int(json.loads(orders.read_text())["tokens"]) // 1_000_000)

    def budget(self, most: int, unit: Any = "money") -> None:
        """Let the tenant spend so much."""
        self.ledger.of(Quotas).put("shop", most, "ever", unit=unit)

    def books(self) -> tuple[int, int]:
        """What the tenant has spent, and what is reserved."""
        return books(self.ledger, "shop")

    def wake(self) -> None:
        """Let the time pass for which steps wait."""
        with writing(self.ledger.engine) as tx:
            waiting = STEPS.c.state.in_(("waiting", "parked"))
            tx.execute(update(STEPS).where(waiting).values(state="ready", ready_at=0))


def task_of_run(job_id: str) -> Task:
    """The task of a run."""
    job = TuningJob(model="tiny", training_file="file-1")
    return Task(job_id=job_id, job=job, event=job, accepted_at=datetime.now(UTC))


def left_of_runs(deployment: Deployment) -> list[Path]:
    """The folders of runs, and their checkpoints in the store."""
    return [*deployment.home.glob("tuning/*"), *deployment.home.glob("files/tuning/*/*/*")]


@pytest.fixture(scope="module")
def processes() -> ModuleType:
    """How runs start processes. It is the module's, so that a parallel run loads torch in one process for all tests."""
    return forked


@pytest.fixture
def deployment(home: Path, processes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment that may tune the base. A segment ends at each checkpoint, of which there is one a step."""
    monkeypatch.setenv("HEADRACE_INTER_THREADS", "1")
    monkeypatch.setattr(training, "subprocess", processes)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(tuner, "SEGMENT_SECONDS", 0.0)
    monkeypatch.setattr(training, "ALLOWED_SECONDS", 600.0)  # a machine that stands still ends no process
    monkeypatch.setattr(tuner, "HAND_ON_SECONDS", 600.0)
    (home / SOURCES_FILE).write_text('[sources]\ntiny = "source"\n')
    deployment = Deployment(home)
    yield deployment
    for worker in deployment.tuners:
        worker.stop()
    deployment.ledger.close()


def test_a_job_tunes_a_model_in_segments_and_the_model_answers(deployment: Deployment) -> None:
    deployment.budget(10**9, "tokens")
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    stages = deployment.to_end(deployment.worker())
    row = deployment.run(job_id)
    assert row.state == "succeeded", row.error
    assert stages[0] == "prepare"
    assert stages[-2:] == ["train", "publish"]
    assert stages.count("train") > 3
    (alias,) = json.loads(row.aliases)
    folder = registry.model_dir(deployment.home, alias)
    assert registry.read_card(folder).tenant == "shop"
    answer = CTranslate2Generator.load(folder, device="cpu").generate(
        [Request((Message(role="user", content="3 fig"),), Sampling(max_tokens=4))]
    )[0]
    assert isinstance(answer, Completion)
    assert row.trained_tokens > 0
    assert costs(deployment.ledger)[job_id]["amount"] == -(-333_333 * row.trained_tokens // 1_000_000)
    (quota,) = deployment.ledger.of(Quotas).find(["shop"], unit="tokens")
    assert (quota.used, quota.reserved) == (row.trained_tokens, 0)
    messages = deployment.messages(job_id)
    assert messages[0].startswith("the data can be trained on: ")
    assert any(message.startswith("Step 12/12: training loss=") for message in messages)
    deployment.tuners[0].clear()
    assert not list((deployment.home / "tuning").glob("*"))
    sync_copy(deployment.home / "another", str(deployment.home / "files"), alias)
    assert registry.load_card(deployment.home / "another", alias) == registry.read_card(folder)


def test_the_losses_become_a_file_of_the_tenant_and_a_publish_that_is_tried_again_makes_no_second(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    worker = deployment.worker()
    while deployment.next_stage() != "publish":
        assert deployment.step(worker)
        if worker._live is not None:  # it has ended before the next segment asks what it did
            worker._live[2]._child.wait()
    do = worker.do
    with monkeypatch.context() as lost:  # what it did was not written down
        lost.setattr(worker, "do", lambda *asked: do(*asked) and Wait(None, "again", at_most=0.0))
        deployment.step(worker)
    assert deployment.run(job_id).result_file is None
    (alias,) = (card.alias for card in registry.list_cards(deployment.home) if card.alias != "tiny")
    with pytest.raises(ModelInUse, match=f"{alias}: the job {job_id} makes it"):  # it would be copied once more
        deletable(deployment.ledger, deployment.home, alias)
    deployment.wake()
    deployment.to_end(worker)
    file_id = deployment.run(job_id).result_file
    stored = deployment.ledger.of(StoredFiles)
    (row,) = stored.files("shop", purpose="fine-tune-results")
    assert (row.id, row.name) == (file_id, "step_metrics.csv")
    content = deployment.files.head(file_id, 10_000) or b""
    assert row.digest == hashlib.sha256(content).hexdigest()
    header, untrained, *steps = content.decode().splitlines()
    assert header == "step,train_loss,valid_loss"
    assert re.fullmatch(r"0,,\d\.\d+", untrained)
    assert re.fullmatch(r"12,\d\.\d+,\d\.\d+", steps[-1])
    assert len(list(deployment.home.glob("files/shop/*/*"))) == 2  # what was uploaded, and this


def test_a_store_that_is_away_when_training_has_ended_is_tried_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "SEGMENT_SECONDS", 600.0)
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    worker = deployment.worker()

    def away(_store: Store, path: str, _chunks: object) -> int:
        raise StoreUnavailable(f"{path} is away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", away)
        assert deployment.to_end(worker) == ["prepare", "train"]
    assert "is away" in deployment.reason(job_id)
    deployment.wake()
    assert deployment.to_end(worker) == ["train", "publish"]
    assert deployment.run(job_id).state == "succeeded", deployment.run(job_id).error


def test_a_long_run_tells_a_thousand_of_its_steps(deployment: Deployment) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    work = tuner._Work(task_of_run(job_id), deployment.ledger.of(TuningRuns), lambda: False, deployment.leaving)
    work._told = math.inf  # nothing is written before
    for step in range(1, 2_501):
        work.note({"kind": "step", "step": step, "steps": 2_500, "loss": 0.5, "tokens": step, "seconds_left": 1.0})
    told = [event for event in work.written("running").events if event.data]
    assert len(told) == 2_500 // 3 + 2
    assert [event.data["step"] for event in (*told[:2], told[-1])] == [1, 3, 2_500]


@pytest.mark.parametrize("stage", ["prepare", "train", "publish"])
def test_a_job_that_is_cancelled_leaves_no_process_and_no_model(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def train(_tuner: Tuner, work: Any) -> Done:
        return Done(context={tuner.RUN: {**work.run, "trained": {}}})

    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    worker = deployment.worker()
    with monkeypatch.context() as patch:  # what the stages before do is of no interest
        patch.setattr(Tuner, "_train", train)
        while deployment.next_stage() != stage:
            assert deployment.step(worker)

    def cancelled(_job_id: str) -> bool:
        deployment.ledger.cancel(Cancellation(job_id, "shop", "not wanted any more"))
        return True

    assert deployment.step(worker, cancelled) == stage
    assert deployment.run(job_id).state == "cancelled"
    assert worker._live is None
    assert [card.alias for card in registry.list_cards(deployment.home)] == ["tiny"]
    assert deployment.step(worker) is None
    assert left_of_runs(deployment) == []


@pytest.mark.parametrize("when", ["it is copied", "all is done, and not yet written down"])
def test_a_job_that_is_cancelled_after_its_model_is_published_leaves_no_model(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    worker = deployment.worker()
    while deployment.next_stage() != "publish":
        assert deployment.step(worker)

    def cancel() -> bool:
        deployment.ledger.cancel(Cancellation(job_id, "shop", "not wanted any more"))
        return True

    do, published = worker.do, []

    def cancelled(_job_id: str) -> bool:
        published[:] = [card.alias for card in registry.list_cards(deployment.home) if card.alias != "tiny"]
        return bool(published) and when == "it is copied" and cancel()

    with monkeypatch.context() as patch:
        if when != "it is copied":
            patch.setattr(worker, "do", lambda *asked: (do(*asked), cancel())[0])
        assert deployment.step(worker, cancelled) == "publish"
    assert deployment.run(job_id).state == "cancelled"
    if when != "it is copied":
        worker.clear()
    assert [card.alias for card in registry.list_cards(deployment.home)] == ["tiny"]
    assert left_of_runs(deployment) == []
    with pytest.raises(UnknownModel):
        sync_copy(deployment.home / "another", str(deployment.home / "files"), published[0])


def test_a_worker_removes_again_and_again_what_is_left_of_runs(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(Tuner, "keep_clear", lambda _tuner: begun.set())
    tuner_of(deployment.settings, deployment.ledger)
    assert begun.wait(60)


def test_what_a_run_left_is_removed_when_it_has_ended_elsewhere_and_what_was_tuned_by_hand_stays(
    deployment: Deployment,
) -> None:
    file = deployment.upload(examples(60))
    job_id = deployment.submit(training_file=file)
    worker = deployment.worker()
    for _ in range(3):
        assert deployment.step(worker)
    by_hand = deployment.home / "tuning" / "by-hand"
    by_hand.mkdir()
    (by_hand / ORDERS).write_text('{"job": null}')
    assert len(left_of_runs(deployment)) > 2
    deployment.ledger.cancel(Cancellation(job_id, "shop", "not wanted any more"))
    worker.stop()
    worker.clear()
    assert left_of_runs(deployment) == [by_hand]


@pytest.mark.parametrize(("seconds", "is_saved"), [(600.0, True), (0.0, False)])
def test_a_worker_that_ends_waits_for_a_checkpoint_of_the_present_step_as_long_as_it_may(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, seconds: float, is_saved: bool
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 600.0)  # else there is one at the end of an epoch
    monkeypatch.setattr(training, "SAVE_SECONDS", seconds)
    job_id = deployment.submit(training_file=deployment.upload(examples(6_000)))
    worker = deployment.worker()
    assert deployment.step(worker) == "prepare"
    note = tuner._Work.note

    def leave_in_mid_epoch(work: tuner._Work, event: dict[str, Any]) -> None:
        note(work, event)
        if event["kind"] == "step":
            deployment.leaving.set()

    monkeypatch.setattr(tuner._Work, "note", leave_in_mid_epoch)
    assert deployment.step(worker) == "train"
    assert worker._live is None
    deployment.leaving.clear()
    saved = list(deployment.home.glob(f"tuning/*/{CHECKPOINTS}/step-*.pt"))
    assert [step_of(path) < 600 for path in saved] == [True] * is_saved  # an epoch has more steps
    assert [path.name for path in deployment.home.glob("files/tuning/*/*/*")] == [path.name for path in saved]
    assert deployment.next_stage() == ("train" if is_saved else None)
    if not is_saved:
        assert deployment.reason(job_id) == "its worker stopped"
        return
    assert deployment.step(deployment.worker()) == "train"
    on = [message for message in deployment.messages(job_id) if message.startswith("going on after step")]
    assert on[0].startswith(f"going on after step {step_of(saved[0])} of")


def test_a_run_goes_on_elsewhere_from_the_store_and_waits_for_its_host_without(
    deployment: Deployment, base_home: Path, tmp_path: Path
) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    first = deployment.worker("first")
    for _ in range(3):
        assert deployment.step(first)
    first.stop()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(base_home, elsewhere)
    (elsewhere / SOURCES_FILE).write_text('[sources]\ntiny = "source"\n')
    second = deployment.worker("second", elsewhere)
    shared, second._store = second._store, Store.at(str(tmp_path / "empty"))
    assert deployment.step(second) == "train"
    assert deployment.step(second) is None
    assert "the run lies on first, and waits for a worker there" in deployment.reason(job_id)
    deployment.wake()
    second._store = shared
    deployment.to_end(second)
    assert deployment.run(job_id).state == "succeeded", deployment.run(job_id).error
    assert any(message.startswith("going on after step ") for message in deployment.messages(job_id))
    assert len(registry.list_cards(elsewhere)) == 2


def test_a_run_waits_while_the_process_of_a_worker_that_lost_it_has_not_ended(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(forked.STOPS_AFTER, "1")
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    first, second = deployment.worker(), deployment.worker()
    for _ in range(2):
        assert deployment.step(first)
    first.stop()
    (orders,) = deployment.home.glob(f"tuning/*/{ORDERS}")
    with training.locked(orders.parent):  # as such a process does, see test_training.py
        assert deployment.step(second) == "train"
        assert second._live is None
        assert "is trained by another process already" in deployment.reason(job_id)
    deployment.wake()
    assert deployment.step(second) == "train"
    assert second._live is not None


def test_a_job_whose_base_has_no_source_says_what_to_add(deployment: Deployment) -> None:
    (deployment.home / SOURCES_FILE).unlink()
    job_id = deployment.submit(training_file=deployment.upload(examples(60)))
    deployment.to_end(deployment.worker())
    row = deployment.run(job_id)
    assert row.state == "failed"
    assert "under [sources] in " in row.error
    assert 'tiny\\" = \\"PATH' in row.error


def test_a_file_of_another_tenant_is_not_found(deployment: Deployment) -> None:
    job_id = deployment.submit(training_file=deployment.upload(examples(60), tenant="another"))
    deployment.to_end(deployment.worker())
    assert "there is no such file" in deployment.run(job_id).error
