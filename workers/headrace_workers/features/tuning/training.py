"""A run of training: its folder under `<home>/tuning/`, the room that it needs, and the processes that do the work."""

import fcntl
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_workers.core.machine import available_memory
from headrace_workers.core.private_files import private_folder
from headrace_workers.features.tuning.network import AT_ONCE, HELD_OUT, ORDERS, SAVE, TRAIN
from headrace_workers.features.tuning.recipe import Plan
from headrace_workers.features.tuning.rows import TOKEN_BYTES, Rows, UnfitData, build_rows, write_rows
from headrace_workers.models.registry import is_installed, sha256_of

CHECKPOINT_SECONDS: Final = 240.0  # between two checkpoints, so that a segment of five minutes has one
ALLOWED_SECONDS: Final = 30.0  # that a process may go on when nobody tells it so
SAVE_SECONDS: Final = 12.0  # until a checkpoint that was asked for is there: a worker that is stopped has 20 seconds
SILENT_SECONDS: Final = 1_800.0  # after which a process that says nothing hangs: a part of a step takes minutes
_END_SECONDS: Final = 30.0  # that a killed process may take: the kernel may wait for a file system
_TOLD_EVERY: Final = 5.0  # seconds
_LIBRARIES: Final = ("torch", "transformers", "peft")
_TORCH_MEMORY: Final = 600_000_000  # bytes of the libraries themselves
_BYTES: Final = {"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}  # of a weight
_ROW_BYTES: Final = 7  # of a token in the file of rows
_SPARE: Final = 1.2
# The features of this process are to be known there, too.
_PROGRAM: Final = "import headrace_workers.wiring; from headrace_workers.features.tuning.{} import main; main()"
_MODULES: Final = {"train": "network", "publish": "publish"}  # of the parts of a run

_WORDS: Final = {
    "started": "training for {steps:,} steps",
    "step": "step {step:,} of {steps:,}, training loss {loss:.4f}, {seconds_left:,.0f} s left",
    "evaluation": "held-out loss after step {step:,}: {loss:.4f}",
    "corrupted": "the checkpoint {file} is not as it was written: the one before is used",
    "trained": "trained {tokens:,} tokens in {step:,} steps; best after step {best_step:,}; {memory_bytes:,} bytes of "
    "memory",
    "doing": "{what}",
    "model": "{alias}: {exact:.0%} of {prompts} held-out prompts are answered as their examples are; {flips} answers "
    "differ from those in float32",
}

Event = dict[str, Any]


class RunIsBusy(Unavailable):
    """A run that another process has, or that lies elsewhere."""


class TrainingFailed(HeadraceError):
    """A run that stopped before its end. The message says where and why."""


def need_extra() -> None:
    """Raise ConfigurationError where the extra `tune` is not installed."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise ConfigurationError(f"tuning needs the packages {', '.join(missing)}: pip install 'headrace[tune]'")


def run_folder(home: Path, plan: Plan) -> Path:
    """Return the folder of a run."""
    return home / "tuning" / plan.id


def prepare(plan: Plan, home: Path, goes_on: Callable[[], object] = lambda: None) -> Path:
    """Check the data, and write all that a run needs into its folder. One that is there already goes on.

    Raise UnfitData or ConfigurationError for a run that cannot work, and what `goes_on` raises, which is called often.
    """
    need_extra()
    folder = run_folder(home, plan)
    if (folder / ORDERS).is_file():
        return folder
    rows = build_rows(plan, home, goes_on)
    for name, path in (("data", plan.data), ("held_out", plan.held_out)):
        if path is not None and sha256_of(path) != plan.sha256[name]:
            raise UnfitData(f"{path.name} changed while it was read: start the run again")
    check_room(plan, rows, home)
    training = plan.recipe.training
    orders = {
        "source": str(plan.source.resolve()), "lora": plan.recipe.lora.model_dump(mode="json"),
        "rate": training.learning_rate, "epochs": training.epochs, "batch_size": training.batch_size,
        "seed": training.seed, "patience": training.patience, "checkpoint_seconds": CHECKPOINT_SECONDS,
        "home": str(home.resolve()), "tokens": sum(row.tokens for row in rows.train) * training.epochs,
        "base": plan.base.alias, "aliases": {kind: plan.alias(kind) for kind in plan.recipe.quantizations},
        "lineage": lineage_of(plan, rows), "tenant": plan.tenant, "job": plan.job_id,
    }  # fmt: skip
    private_folder(folder)
    write_rows(folder / TRAIN, rows.train)
    write_rows(folder / HELD_OUT, rows.held_out)
    draft = folder / f".{ORDERS}"
    draft.write_text(json.dumps(orders, indent=1), encoding="utf-8")
    draft.rename(folder / ORDERS)  # last: with it the folder is whole
    return folder


def lineage_of(plan: Plan, rows: Rows) -> dict[str, Any]:
    """Return what a tuned model comes from."""
    return {
        "run": plan.id,
        "base": asdict(plan.base) | {"remote": None},
        "recipe": plan.recipe.model_dump(mode="json"),
        "sha256": plan.sha256,
        "licences": plan.licences,
        "rows": {"train": len(rows.train), "held_out": len(rows.held_out)},
        "estimated_memory_bytes": memory_needed(plan, rows),
        "versions": {name: version(name) for name in (*_LIBRARIES, "ctranslate2", "headrace")},
    }


def check_room(plan: Plan, rows: Rows, home: Path) -> None:
    """Raise ConfigurationError where memory or disk are too small by an estimate: torch, the weights in float32, and
    what the largest part of a batch keeps for its gradient, and the rows.
    """
    needed = memory_needed(plan, rows)
    memory = available_memory()
    if memory is not None and needed > memory:
        raise ConfigurationError(
            f"training {plan.base.alias} takes about {needed / 1e9:.1f} GB of memory, and this machine has "
            f"{memory / 1e9:.1f} GB: choose a smaller base, or lower max_length"
        )
    weights = _weights(plan)
    # The merged network, its float32 form that is compared, each published form, and the checkpoints.
    disk = weights * (4 + 4 + sum(_BYTES.get(kind.partition("_")[0], 4) for kind in plan.recipe.quantizations))
    disk += weights // 10 * 12 + _ROW_BYTES * _tokens(rows)
    place = home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if disk > free:
        raise ConfigurationError(
            f"the run needs about {disk / 1e9:.1f} GB on the disk of HEADRACE_HOME, and {free / 1e9:.1f} GB are free: "
            "make room there, or move HEADRACE_HOME"
        )


def memory_needed(plan: Plan, rows: Rows) -> int:
    """Return about how many bytes training takes at its peak."""
    weights, row = _weights(plan), max(row.tokens for row in rows.train)
    longest = max(row, min(AT_ONCE, row * plan.recipe.training.batch_size))
    # A token keeps about sixteen numbers for each feature of each layer; layers × features ≈ √(weights × layers / 12).
    per_token = 16 * 4 * int((weights * 30 / 12) ** 0.5)
    return int(_SPARE * (_TORCH_MEMORY + 4 * weights + longest * per_token + TOKEN_BYTES * _tokens(rows)))


def _tokens(rows: Rows) -> int:
    """Return the tokens of all rows."""
    return sum(row.tokens for row in (*rows.train, *rows.held_out))


def _weights(plan: Plan) -> int:
    """Return about how many weights the base has."""
    return plan.base.size_bytes // _BYTES.get(plan.base.quantization.partition("_")[0], 4)


class Process:
    """A process that trains or publishes. It ends when nobody says that it may go on, and with its parent."""

    def __init__(self, part: str, folder: Path, lock: int | None = None) -> None:
        self._log = folder / f"{part}.log"
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._asked_at: float | None = None  # for a checkpoint
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(_MODULES[part]), str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # Ctrl-C is for the parent, which says what happens
                pass_fds=() if lock is None else (lock,),  # held until this process is gone, too
            )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        self.allow()

    @property
    def has_died(self) -> bool:
        """Return True if nothing more can be learned from it. Messages of a process that ended well may be unread."""
        return self._child.poll() not in (None, 0)

    def allow(self, seconds: float | None = None) -> None:
        """Let the process go on for so many seconds, or for ALLOWED_SECONDS."""
        self._say(ALLOWED_SECONDS if seconds is None else seconds)

    def save(self) -> bool:
        """Ask once for a checkpoint after the present step. Return False if it took longer than SAVE_SECONDS."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._say(SAVE)
        return time.monotonic() - self._asked_at < SAVE_SECONDS

    def _say(self, line: object) -> None:
        if self._child.stdin is not None:
            with suppress(OSError, ValueError):  # it has ended: its events say why
                self._child.stdin.write(f"{line}\n")
                self._child.stdin.flush()

    def events(self, go_on: Callable[[], bool] = lambda: True) -> Iterator[Event]:
        """Yield the events until the process ends. Kill it once `go_on`, which is asked each second, says no. A caller
        may leave, and ask for the other events later.

        Raise TrainingFailed when it stopped, and Unavailable when it died or said nothing for too long.
        """
        told, heard = -math.inf, time.monotonic()
        while True:
            if not go_on():
                self.kill()
                return
            if time.monotonic() - told >= _TOLD_EVERY:
                self.allow()
                told = time.monotonic()
            try:
                event = self._events.get(timeout=1.0)
            except Empty:
                if time.monotonic() - heard < SILENT_SECONDS:
                    continue
                self.kill()
                raise Unavailable(
                    f"the process that trains said nothing for {SILENT_SECONDS / 60:g} minutes, and was ended: see "
                    f"{self._log}, and check that its disk answers. The next try goes on from the last checkpoint"
                ) from None
            if event is None:
                break
            if event["kind"] == "stopped":
                self.kill()
                raise TrainingFailed(event["reason"])
            if event["kind"] != "alive":
                yield event
            heard = time.monotonic()
        if (code := self._child.wait()) != 0:
            end = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"the process that trains ended with {code} ({' '.join(end)[:300]}): see {self._log}")

    def kill(self) -> None:
        """End the process now, and wait until it is gone. One that a hung file system holds still has the lock of its
        run.
        """
        self._child.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_SECONDS)

    def _read(self) -> None:
        for line in self._child.stdout or ():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library that prints
            if isinstance(event, dict) and "kind" in event:
                self._events.put(event)
        self._events.put(None)


def tune(plan: Plan, home: Path, show: Callable[[Event], None]) -> Event:
    """Run a plan to its end, from where it is. Return the event of what was published, or is there already."""
    aliases = [plan.alias(kind) for kind in plan.recipe.quantizations]
    if is_published(home, aliases):
        return {"kind": "published", "aliases": aliases}
    folder = prepare(plan, home)
    last: Event = {}
    for part in _MODULES:
        process = begin(part, folder)
        try:
            for event in process.events():
                show(event)
                last = event
        finally:
            process.kill()
        if part == "train":
            (folder / "trained.json").write_text(json.dumps(last), encoding="utf-8")
    return last


def is_published(home: Path, aliases: Sequence[str]) -> bool:
    """Return True if these models are in the catalogue."""
    return all(is_installed(home, alias) for alias in aliases)


def begin(part: str, folder: Path) -> Process:
    """Start the process of a part of a run. Raise RunIsBusy while another process of the run has not ended."""
    with locked(folder) as lock:
        for left in (*folder.glob(".merged-*"), *folder.glob(".float32-*")):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        return Process(part, folder, lock)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the lock of a run, and yield its descriptor. Raise RunIsBusy while another process has it.

    The processes of the run hold it too, so that one of them that outlives its parent is waited for.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunIsBusy(f"the run {folder.name} is trained by another process already") from None
        yield file.fileno()


def in_words(event: Event) -> str | None:
    """Return an event for people; None for one that is not worth a line."""
    words = _WORDS.get(event["kind"])
    if event["kind"] == "started" and event["step"]:
        words = "going on after step {step:,} of {steps:,}"
    return None if words is None else words.format(**event)
