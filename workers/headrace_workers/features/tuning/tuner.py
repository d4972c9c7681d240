"""The runs of a worker: what each stage of a tuning job does there.

At most one process trains. It goes on while the worker hands a job from one segment to the next, and ends when nobody
takes that up. Where it is gone, training goes on from the newest checkpoint: the one in the folder of the run, or, on
another machine, the one in the store of files.
"""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Final

from headrace_schemas import HeadraceError, Tuned, TuningJob, Usage
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Ended, Outcome, Wait, outcome_of
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.private_files import private_folder
from headrace_workers.features.tuning.copies import chunks_of, copy_model, fetched, forget_deletion, remove, remove_copy
from headrace_workers.features.tuning.network import CHECKPOINTS, ORDERS, step_of
from headrace_workers.features.tuning.publish import LINEAGE
from headrace_workers.features.tuning.recipe import BASE_LEARNING_RATE, Recipe, Training, planned, source_of
from headrace_workers.features.tuning.store import (
    CANCELLED,
    MAX_EVENTS,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Checkpoint,
    RunEvent,
    RunWrite,
    TuningRuns,
)
from headrace_workers.features.tuning.training import (
    Event,
    Process,
    RunIsBusy,
    begin,
    in_words,
    is_published,
    locked,
    need_extra,
    prepare,
)
from headrace_workers.files.object_store import NoSuchObject, Store
from headrace_workers.files.service import Files, files_in
from headrace_workers.files.settings import FileSettings
from headrace_workers.files.store.files import NewFile, Piece
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.models.registry import load_card, model_dir
from headrace_workers.runtime.settings import Settings

RESULTS: Final = "fine-tune-results"  # the purpose of the file of losses
_COLUMNS: Final = ("step", "train_loss", "valid_loss")
RUN: Final = "tuning"  # the name in the context of a step
SEGMENT_SECONDS: Final = 60.0  # a segment ends at the first checkpoint after it, see training.CHECKPOINT_SECONDS
HAND_ON_SECONDS: Final = 15.0  # that a process goes on between two segments
_BUSY_SECONDS: Final = 5.0
_CLEAR_SECONDS: Final = 15.0
_TOLD_EVERY: Final = 10.0  # seconds between two writes of events
_TOLD_STEPS: Final = 1_000  # of a run
# The fewest held-out answers that show anything are enough for a job: nobody says which difference matters.
_DIFFERENCE: Final = 1.0
_MAX_SUFFIX: Final = 18
_REPLAY: Final = ". Raise the budget, then replay the job: it goes on from its last checkpoint"


class _GivenUp(Exception):
    """Work that was left, since the job is not ours any more or the worker ends."""


class Tuner:
    """The runs of one worker. `files` has the examples, and `store` the checkpoints."""

    def __init__(self, home: Path, ledger: Ledger, files: Files, store: Store, host: str | None = None) -> None:
        self._home, self._files, self._store = home, files, store
        self._rows, self._runs = ledger.of(StoredFiles), ledger.of(TuningRuns)
        self._host = host or socket.gethostname()
        self._live: tuple[str, Path, Process] | None = None

    def do(self, part: str, task: Task, cancelled: Callable[[], bool], leaving: threading.Event) -> Outcome:
        """Do a part of a run. It stops when the job is `cancelled`, or this worker is `leaving`."""
        work = _Work(task, self._runs, cancelled, leaving)
        parts = {"prepare": self._prepare, "train": self._train, "publish": self._publish}
        try:
            return parts[part](work)
        except _GivenUp:
            self.stop()
            self.clear()
            return Wait(None, "its worker stopped", at_most=1.0)
        except RunIsBusy as error:  # of a segment that was cut off, and ends by itself
            return Wait(None, str(error), at_most=_BUSY_SECONDS)
        except HeadraceError as error:
            return outcome_of(error)

    def stop(self) -> None:
        """End the process that runs, if one does."""
        if self._live is not None:
            self._live[2].kill()
            self._live = None

    def _prepare(self, work: "_Work") -> Outcome:
        folder = self._folder_of(work)
        orders = json.loads((folder / ORDERS).read_text(encoding="utf-8"))
        count = orders["lineage"]["rows"]
        work.tell(f"the data can be trained on: {count['train']:,} answers, and {count['held_out']:,} held out")
        to_train = orders["tokens"]
        run = {
            "id": folder.name, "aliases": list(orders["aliases"].values()), "host": self._host, "stored": [],
            "to_train": to_train,
        }  # fmt: skip
        return Done(
            context={RUN: run}, rows=(work.written(QUEUED, aliases=json.dumps(run["aliases"])),), to="train",
            model=work.job.model, to_train=to_train, advice=_REPLAY,
        )  # fmt: skip

    def _train(self, work: "_Work") -> Outcome:
        folder = self._ready(work)
        process = self._process("train", folder)
        self._runs.begin_training(work.task.job_id)
        begun, trained = time.monotonic(), None
        # A worker that ends waits for one more checkpoint.
        for event in process.events(lambda: work.may_go_on() or (not work.cancelled() and process.save())):
            work.note(event)
            if event["kind"] == "trained":
                trained = event
            is_over = work.leaving.is_set() or time.monotonic() - begun >= SEGMENT_SECONDS
            if event["kind"] == "checkpoint" and is_over:
                break
        else:
            if trained is None:
                raise _GivenUp
            self._live = None  # it has told all: if the rest is to be done again, another one goes on from its end
        if work.leaving.is_set():
            self.stop()
        process.allow()
        stored = self._stored(work, folder)
        process.allow(HAND_ON_SECONDS)
        run = {**work.run, "host": self._host, "stored": stored, "tokens": work.tokens}
        if trained is not None:
            run["trained"] = trained
        done = Done(
            context={RUN: run}, rows=(work.segment_written(),), to_train=run["to_train"] - work.tokens,
            trained=work.tokens - work.run.get("tokens", 0),
        )  # fmt: skip
        return done if trained else replace(done, to="train", model=work.job.model, advice=_REPLAY)

    def _publish(self, work: "_Work") -> Outcome:
        if not is_published(self._home, work.run["aliases"]):
            folder, last = self._ready(work), None
            for alias in work.run["aliases"]:
                forget_deletion(self._store, alias)
            (folder / "trained.json").write_text(json.dumps(work.run["trained"]), encoding="utf-8")
            for event in self._process("publish", folder).events(work.may_go_on):
                work.note(event)
                last = event["kind"]
            self._live = None
            if last != "published":
                raise _GivenUp
        for alias in work.run["aliases"]:
            copy_model(self._home, self._store, alias, work.check)
        content = (model_dir(self._home, work.run["aliases"][0]) / LINEAGE).read_bytes()
        metrics = json.loads(content)["metrics"]
        tuned = Tuned(
            model=work.job.model,
            aliases=tuple(work.run["aliases"]),
            usage=Usage(prompt_tokens=work.run["tokens"], completion_tokens=0),
            metrics={name: value for name, value in metrics.items() if type(value) in (int, float)},
            lineage=hashlib.sha256(content).hexdigest(),
        )
        return Ended(
            receipt(work.task, tuned=tuned), rows=(replace(work.written(RUNNING), results=self._results(work)),)
        )

    def _results(self, work: "_Work") -> NewFile:
        """Store the losses of the steps as CSV, as OpenAI does. Return the file, which has the same id each time."""
        losses: dict[int, dict[str, float]] = {}
        run = self._runs.run(work.task.job_id)
        for event in reversed(self._runs.events(run.number, None, MAX_EVENTS) if run else ()):
            if event.data is not None:
                step = json.loads(event.data)
                losses.setdefault(step["step"], {}).update(step)
        lines = (",".join(str(losses[step].get(name, "")) for name in _COLUMNS) for step in sorted(losses))
        content = "".join(f"{line}\n" for line in (",".join(_COLUMNS), *lines)).encode()
        file_id, tenant = f"file-{work.task.job_id.replace('-', '')}", work.job.tenant
        path = f"{tenant}/{file_id}/results"
        return NewFile(
            id=file_id, tenant=tenant, purpose=RESULTS, name="step_metrics.csv",
            pieces=(Piece(path, self._store.write(path, [content])),), digest=hashlib.sha256(content).hexdigest(),
        )  # fmt: skip

    def _process(self, part: str, folder: Path) -> Process:
        """Return the process of this part, which was started before or is now. Any other ends."""
        if self._live is not None:
            if self._live[:2] == (part, folder) and not self._live[2].has_died:
                return self._live[2]
            self.stop()
        process = begin(part, folder)
        self._live = (part, folder, process)
        return process

    # -- folders and checkpoints

    def _ready(self, work: "_Work") -> Path:
        """Return the folder of a run with the newest of its checkpoints, which come from the store where others made
        them. Raise RunIsBusy where they are out of reach.
        """
        run = work.run
        try:
            folder = self._home / "tuning" / str(run["id"])
            if not (folder / ORDERS).is_file():
                folder = self._folder_of(work)
            here = folder / CHECKPOINTS
            if run["stored"] and not (here / max(run["stored"])).is_file():
                private_folder(here)
                for name in run["stored"]:
                    work.check()
                    draft = folder / f".{name}"
                    fetched(self._store, work.path_of(name), draft)  # whether it is whole, the process sees
                    draft.rename(here / name)
        except NoSuchObject as error:
            if run["host"] == self._host:
                raise
            raise RunIsBusy(f"the run lies on {run['host']}, and waits for a worker there: {error}") from None
        return folder

    def clear(self) -> None:
        """Remove the folders and checkpoints of runs that are over, and the models of those that were cancelled. Those
        of failed runs, which may be replayed, stay until the ledger forgets the run; those of `headrace tune run` are
        their user's.
        """
        for orders in (self._home / "tuning").glob(f"*/{ORDERS}"):
            with suppress(HeadraceError, OSError, ValueError):  # they are removed later
                told = json.loads(orders.read_text(encoding="utf-8"))
                if (job_id := told.get("job")) is None:
                    continue
                run, folder = self._runs.run(job_id), orders.parent
                if run is not None and run.state not in (SUCCEEDED, CANCELLED):
                    continue
                with locked(folder):  # its process has ended
                    for alias in told["aliases"].values() if run is not None and run.state == CANCELLED else ():
                        remove_copy(self._store, alias)
                        remove(self._home, alias)
                    self._store.remove(self._store.objects(f"tuning/{told['tenant']}/{folder.name}"))
                    rmtree(folder, ignore_errors=True)

    def keep_clear(self) -> None:
        """Clear again and again: a run may be cancelled after its last step, and before the ledger has its end."""
        while True:
            self.clear()
            time.sleep(_CLEAR_SECONDS)

    def _folder_of(self, work: "_Work") -> Path:
        """Return the folder of a run with its rows and orders. Raise UnfitData, or the error of what cannot work."""
        job = work.job
        card = load_card(self._home, job.model)
        source = source_of(self._home, job.model)
        private_folder(self._home / "tuning")
        with TemporaryDirectory(dir=self._home / "tuning", prefix=".data-") as place:
            data = self._download(work, "training_file", job.training_file, Path(place))
            held_out = None
            if job.validation_file is not None:
                held_out = self._download(work, "validation_file", job.validation_file, Path(place))
            values = {"seed": job.seed, "epochs": job.epochs, "batch_size": job.batch_size}
            training = Training(
                learning_rate=BASE_LEARNING_RATE * (job.learning_rate_multiplier or 1),
                max_length=card.context_length,
                **{name: value for name, value in values.items() if value is not None},
            )  # fmt: skip
            recipe = Recipe(
                base=job.model, source=str(source), data=job.training_file, held_out_data=job.validation_file,
                suffix=(job.suffix or "tuned")[:_MAX_SUFFIX].rstrip("-"), difference=_DIFFERENCE, tenant=job.tenant,
                quantizations=job.quantizations, training=training,
                **({} if job.lora is None else {"lora": job.lora}),
            )  # fmt: skip
            plan = planned(recipe, self._home, source, data, held_out, work.task.job_id)
            return prepare(plan, self._home, work.check)

    def _download(self, work: "_Work", field: str, file_id: str, folder: Path) -> Path:
        if self._rows.file(file_id, work.job.tenant) is None:
            raise InvalidRecord(f"{field} is {file_id}, and there is no such file", param=field)
        path = folder / file_id  # errors name the file so
        with path.open("wb") as file:
            for chunk in self._files.chunks(file_id):
                work.check()
                file.write(chunk)
        return path

    def _stored(self, work: "_Work", folder: Path) -> list[str]:
        """Copy the checkpoints that are new to the store, and remove those that the process has removed. Return the
        names of all.
        """
        before: list[str] = work.run["stored"]
        here = sorted(path.name for path in (folder / CHECKPOINTS).glob("step-*.pt"))
        stored = [name for name in here if name in before]
        for name in here:
            if name in before:
                continue
            with suppress(FileNotFoundError):  # the process goes on, and has newer ones by now
                self._store.write(work.path_of(name), chunks_of(folder / CHECKPOINTS / name))
                stored.append(name)
                work.checkpoints.append(name)
        self._store.remove(work.path_of(name) for name in before if name not in here)
        return stored


def tuner_of(settings: Settings, ledger: Ledger) -> Tuner:
    """Return the tuner of a worker. Raise ConfigurationError where the extra `tune` is not installed."""
    need_extra()
    store = Store.at(settings.of(FileSettings).place(settings.home))
    tuner = Tuner(settings.home, ledger, files_in(settings.home, settings, ledger), store)
    threading.Thread(target=tuner.keep_clear, name="ended runs", daemon=True).start()
    return tuner


class _Work:
    """A part of a run that is under way: its job, and the events that are still to be written."""

    def __init__(self, task: Task, runs: TuningRuns, cancelled: Callable[[], bool], leaving: threading.Event) -> None:
        assert isinstance(task.job, TuningJob)  # noqa: S101 - the stages take no other
        self.task, self.job = task, task.job
        self.run: dict[str, Any] = dict(task.context.get(RUN, {}))
        self.tokens: int = self.run.get("tokens", 0)
        self.checkpoints: list[str] = []
        self._losses: dict[int, dict[str, float]] = {}
        self.cancelled, self.leaving, self._runs = cancelled, leaving, runs
        self._events: list[RunEvent] = []
        self._told = 0.0
        self._seconds_left: float | None = None

    def may_go_on(self) -> bool:
        """Return False once the job is not ours any more, or this worker ends."""
        return not self.cancelled() and not self.leaving.is_set()

    def check(self) -> None:
        """Raise _GivenUp once the work is not wanted any more."""
        if not self.may_go_on():
            raise _GivenUp

    def tell(self, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Keep an event, which is written soon."""
        self._events.append(RunEvent(message, level, data, at=int(time.time() * 1000)))

    def note(self, event: Event) -> None:
        """Keep what a process tells."""
        now, kind = time.monotonic(), event["kind"]
        if kind in ("step", "trained"):
            self.tokens = max(self.tokens, event["tokens"])  # none is charged twice, where an older checkpoint is used
        if kind == "step":
            self._seconds_left = event["seconds_left"]
            self._losses.setdefault(event["step"], {})["train_loss"] = event["loss"]
            if event["step"] in (1, event["steps"]) or event["step"] % -(-event["steps"] // _TOLD_STEPS) == 0:
                data = {"step": event["step"], "total_steps": event["steps"], "train_loss": event["loss"]}
                self.tell(f"Step {event['step']}/{event['steps']}: training loss={event['loss']:.4f}", data=data)
        elif kind == "evaluation":
            self._losses.setdefault(event["step"], {})["valid_loss"] = event["loss"]
            self.tell(in_words(event) or "", data={"step": event["step"], "valid_loss": event["loss"]})
        elif words := in_words(event):
            self.tell(words, "warn" if kind == "corrupted" else "info")
        if now - self._told >= _TOLD_EVERY and self._events:
            self._told = now
            with suppress(Unavailable):  # they are written later
                self._runs.add_events(self.task.job_id, self._events)
                self._events = []

    def written(self, state: str, checkpoints: Sequence[Checkpoint] = (), **changes: Any) -> RunWrite:
        """Return what the step writes of the run."""
        return RunWrite(self.task.job_id, state, self._events, checkpoints, changes)

    def segment_written(self) -> RunWrite:
        """Return what a segment writes of the run: events, checkpoints and how far it is."""
        left = self._seconds_left
        finish = None if left is None else int((time.time() + left) * 1000)
        checkpoints = [self._checkpoint(name) for name in self.checkpoints]
        return self.written(RUNNING, checkpoints, trained_tokens=self.tokens, estimated_finish=finish)

    def path_of(self, name: str) -> str:
        """Return the place of a checkpoint in the store of files."""
        return f"tuning/{self.job.tenant}/{self.run['id']}/{name}"

    def _checkpoint(self, name: str) -> Checkpoint:
        step = step_of(Path(name))
        return Checkpoint(step, self.path_of(name), Path(name).stem.rpartition("-")[2], self._losses.get(step, {}))
