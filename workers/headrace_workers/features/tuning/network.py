"""The process that trains: see `training.Process`.

It is the adapter of torch, Transformers and PEFT, which take seconds to import and a lot of memory: no worker loads
them. The folder has the orders (`orders.json`), the rows and the checkpoints. Events go to standard output as JSON
lines; `alive` comes between the parts of a step or a comparison, so that a process that hangs is noticed. Each line on
standard input says for how many seconds the process may go on, or asks for a checkpoint after the present step. It ends
when its time is over, and when its parent ends.

A step is decided by the seed, the rows and the step's number alone. So a run that goes on from a checkpoint computes
what it would have computed without the interruption.
"""

import hashlib
import io
import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.core.machine import available_cores, peak_memory
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.features.tuning.rows import Row, read_rows
from headrace_workers.models.convert_gguf import gguf_parts

ORDERS, TRAIN, HELD_OUT = "orders.json", "train.jsonl", "held-out.jsonl"
CHECKPOINTS: Final = "checkpoints"
SAVE: Final = "save"  # the line on standard input that asks for a checkpoint
STOPPED: Final = 3  # the exit code of a run that stopped itself, and said why
# Padded tokens that are computed at once: they bound the memory. A longer row is alone.
AT_ONCE: Final = 2_048
MAX_NORM: Final = 1.0  # of the gradient
_EVALUATED: Final = 1_000  # rows held out
_KEPT: Final = 2  # newest checkpoints, beside the best
_asked_to_save: Final = threading.Event()


class Stopped(Exception):
    """Training that cannot go on. The message says where and why."""


def tell(kind: str, **facts: Any) -> None:
    """Write an event."""
    sys.stdout.write(json.dumps({"kind": kind, **facts}) + "\n")
    sys.stdout.flush()


def live_as_allowed() -> None:
    """End this process when standard input ends, or nothing on it allows more time."""
    allowed = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == SAVE:
                _asked_to_save.set()
                continue
            until[0] = time.monotonic() + float(line)
            allowed.set()
        os._exit(STOPPED)

    def watch() -> None:
        allowed.wait()
        while (left := until[0] - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        os._exit(STOPPED)

    until = [math.inf]
    for run in (listen, watch):
        threading.Thread(target=run, daemon=True).start()


def threads() -> int:
    """Return on how many threads this process may compute: as many as its worker, by default all cores."""
    return GenerationSettings.from_env().inter_threads or available_cores()


def load_base(source: Path) -> Any:
    """Return the network of a GGUF file or Transformers folder in float32."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads())
    if source.is_dir():
        return transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    if len(gguf_parts(source)) > 1:
        raise ConfigurationError(f"{source.name} has several parts: name the Transformers folder of the base instead")
    network = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, local_files_only=True
    )
    # The weights are float32 by now; the marker of the file's own quantization would forbid saving them.
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.hf_quantizer = None
    return network


def with_adapter(network: Any, lora: dict[str, Any], seed: int) -> Any:
    """Return the network with new matrices beside its weights, which are frozen. The seed draws them."""
    import peft
    import torch

    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], target_modules=list(lora["targets"]), task_type="CAUSAL_LM"
    )
    try:
        return peft.get_peft_model(network, config)
    except ValueError as error:
        raise ConfigurationError(f"lora.targets: {str(error)[:300]}") from error


def batches(rows: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the places of the rows of each batch of an epoch."""
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return [order[at : at + size] for at in range(0, rows, size)]


def parts_of(rows: Sequence[Row], at_once: int = AT_ONCE) -> Iterator[list[Row]]:
    """Yield the rows in parts that are computed at once, rows of like length together."""
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: row.tokens, reverse=True):
        if part and part[0].tokens * (len(part) + 1) > at_once:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def loss_of(network: Any, rows: Sequence[Row]) -> Any:
    """Return the summed loss of the answers of a part: minus the logarithm of the probability of each of their tokens.

    Rows are padded on the left, so that all answers end together and only their logits are computed.
    """
    import torch

    length, kept = max(row.tokens for row in rows), max(len(row.answer) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), kept), -100, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, length - row.tokens :] = torch.tensor([*row.prompt, *row.answer])
        mask[place, length - row.tokens :] = 1
        labels[place, kept - len(row.answer) :] = torch.tensor(row.answer)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = network(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept + 1
    ).logits[:, -kept - 1 : -1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), reduction="sum"
    )


class Checkpoints:
    """The checkpoints of a run: files whose names have their step and SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / CHECKPOINTS
        self._folder.mkdir(exist_ok=True)

    def write(self, state: dict[str, Any]) -> Path:
        """Write the state after a step, whole or not at all. Stopped if there is no room."""
        import torch

        memory = io.BytesIO()
        torch.save(state, memory)
        data = memory.getbuffer()
        path = self._folder / f"step-{state['step']:08}-{hashlib.sha256(data).hexdigest()}.pt"
        draft = self._folder / ".draft"
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise Stopped(
                f"the checkpoint of step {state['step']} cannot be written: {error.strerror}; make room in tuning/ of "
                "HEADRACE_HOME and start the run again: it goes on from the checkpoint before"
            ) from error
        tell("checkpoint", step=state["step"], file=path.name, bytes=len(data), best=state["best_step"])
        for old in self._paths()[_KEPT:]:
            if step_of(old) != state["best_step"]:
                old.unlink(missing_ok=True)
        return path

    def newest(self) -> dict[str, Any] | None:
        """Return the newest state that is whole; None without one."""
        return next((state for path in self._paths() if (state := self._read(path)) is not None), None)

    def at(self, step: int) -> dict[str, Any] | None:
        """Return the state after this step; None if it is not there, or not whole."""
        return next((self._read(path) for path in self._paths() if step_of(path) == step), None)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"), reverse=True)

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        import torch

        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.stem.rpartition("-")[2]:
            tell("corrupted", file=path.name)
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        return state


def step_of(path: Path) -> int:
    """Return the step of a checkpoint."""
    return int(path.name.split("-")[1])


class Trainer:
    """A run that trains from its newest checkpoint to its end."""

    def __init__(self, folder: Path) -> None:
        import torch

        self._orders: dict[str, Any] = json.loads((folder / ORDERS).read_text(encoding="utf-8"))
        self._rows = read_rows(folder / TRAIN)
        self._held_out = read_rows(folder / HELD_OUT)[:_EVALUATED]
        self._checkpoints = Checkpoints(folder)
        network = load_base(Path(self._orders["source"]))
        self._network = with_adapter(network, self._orders["lora"], self._orders["seed"])
        self._network.train()
        self._weights = [weights for weights in self._network.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, lr=self._orders["rate"], weight_decay=0.0)
        self._size: int = self._orders["batch_size"]
        self._per_epoch = math.ceil(len(self._rows) / self._size)
        self._steps: int = self._per_epoch * self._orders["epochs"]
        self._step, self._tokens = 0, 0
        self._best, self._best_step, self._not_better = math.inf, 0, 0

    def run(self) -> None:
        """Train to the end. Raise Stopped if it cannot be reached."""
        if (state := self._checkpoints.newest()) is not None:
            self._resume(state)
        tell("started", step=self._step, steps=self._steps, tokens=self._tokens)
        if not self._step:
            tell("evaluation", step=0, loss=self._held_out_loss())
        begun, first, saved = time.monotonic(), self._step, time.monotonic()
        while self._step < self._steps and not self._is_over:
            loss = self._one_step()
            each = (time.monotonic() - begun) / (self._step - first)
            tell(
                "step", step=self._step, steps=self._steps, loss=loss, tokens=self._tokens,
                seconds_left=round(each * (self._steps - self._step), 1),
            )  # fmt: skip
            is_evaluated = self._step % self._per_epoch == 0
            if is_evaluated:
                self._evaluate()
            is_due = _asked_to_save.is_set() or time.monotonic() - saved >= self._orders["checkpoint_seconds"]
            if is_evaluated or is_due:
                self._checkpoints.write(self._state())
                saved = time.monotonic()
        tell(
            "trained", step=self._step, best_step=self._best_step, held_out_loss=self._best, tokens=self._tokens,
            stopped_early=self._step < self._steps, memory_bytes=peak_memory(),
        )  # fmt: skip

    @property
    def _is_over(self) -> bool:
        patience = self._orders["patience"]
        return bool(patience) and self._not_better >= patience

    def _one_step(self) -> float:
        import torch

        epoch, place = divmod(self._step, self._per_epoch)
        chosen = [self._rows[at] for at in batches(len(self._rows), self._size, self._orders["seed"], epoch)[place]]
        for group in self._optimizer.param_groups:
            group["lr"] = self._orders["rate"] * (1 - self._step / self._steps)
        answers, total = sum(len(row.answer) for row in chosen), 0.0
        self._optimizer.zero_grad(set_to_none=True)
        for part in parts_of(chosen):
            tell("alive")
            loss = loss_of(self._network, part) / answers
            loss.backward()
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, MAX_NORM))
        if not math.isfinite(total) or not math.isfinite(norm):
            lines = ", ".join(str(line) for line in sorted({row.line for row in chosen})[:20])
            raise Stopped(
                f"the loss is no number at step {self._step + 1} (lines {lines} of the data): lower the learning rate. "
                "The last good checkpoint is kept"
            )
        self._optimizer.step()
        self._step += 1
        self._tokens += sum(row.tokens for row in chosen)
        return total

    def _held_out_loss(self) -> float:
        import torch

        self._network.eval()
        total = 0.0
        with torch.no_grad():
            for part in parts_of(self._held_out):
                tell("alive")
                total += float(loss_of(self._network, part))
        self._network.train()
        return total / sum(len(row.answer) for row in self._held_out)

    def _evaluate(self) -> None:
        loss = self._held_out_loss()
        if not math.isfinite(loss):
            raise Stopped(f"the held-out loss is no number after step {self._step}: lower the learning rate")
        if loss < self._best:
            self._best, self._best_step, self._not_better = loss, self._step, 0
        else:
            self._not_better += 1
        tell("evaluation", step=self._step, loss=loss)

    def _state(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        return {
            "step": self._step, "tokens": self._tokens, "best": self._best, "best_step": self._best_step,
            "not_better": self._not_better, "adapter": get_peft_model_state_dict(self._network),
            "optimizer": self._optimizer.state_dict(),
        }  # fmt: skip

    def _resume(self, state: dict[str, Any]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self._network, state["adapter"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step, self._tokens = state["step"], state["tokens"]
        self._best, self._best_step, self._not_better = state["best"], state["best_step"], state["not_better"]


def be(part: Callable[[Path], None]) -> NoReturn:
    """Be the process of a part of the run whose folder the command line names, and tell what comes of it."""
    live_as_allowed()
    try:
        part(Path(sys.argv[1]))
    except (Stopped, HeadraceError) as error:
        tell("stopped", reason=str(error))
        os._exit(STOPPED)
    # What was told is flushed. The interpreter would end the libraries' threads, and may wait for one of them for ever.
    os._exit(0)


def main() -> None:
    """Train."""
    be(lambda folder: Trainer(folder).run())
