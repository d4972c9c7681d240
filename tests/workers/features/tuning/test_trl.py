"""Our training against TRL's, which is given the same rows in the same order."""

import importlib.util
import json
from pathlib import Path

import pytest
from tests.services.need import need
from tests.workers.features.tuning.tiny_base import write_recipe

from headrace_workers.features.tuning.network import Trainer, batches, load_base, with_adapter
from headrace_workers.features.tuning.recipe import plan_of
from headrace_workers.features.tuning.rows import read_rows
from headrace_workers.features.tuning.training import prepare

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_the_losses_are_those_of_trl(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need(importlib.util.find_spec("trl"), "TRL is needed: pip install --group tune")
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, dataset: object = None) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    plan = plan_of(write_recipe(home, "source", "[training]\nepochs = 1\nlearning_rate = 0.01"), home)
    folder = prepare(plan, home)
    capsys.readouterr()
    Trainer(folder).run()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = [event["loss"] for event in events if event["kind"] == "step"]

    rows, training = read_rows(folder / "train.jsonl"), plan.recipe.training
    order = [place for batch in batches(len(rows), 8, training.seed, 0) for place in batch]
    data = Dataset.from_list([
        {
            "input_ids": [*rows[at].prompt, *rows[at].answer],
            "labels": [-100] * len(rows[at].prompt) + rows[at].answer,
        }
        for at in order
    ])  # fmt: skip
    trainer = InOrder(
        model=with_adapter(load_base(home / "source"), plan.recipe.lora.model_dump(mode="json"), training.seed),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"), per_device_train_batch_size=8, num_train_epochs=1,
            learning_rate=training.learning_rate, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0,
            max_grad_norm=1.0, logging_steps=1, report_to=[], use_cpu=True, bf16=False, max_length=None,
            completion_only_loss=True, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=data,
    )  # fmt: skip
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert ours == pytest.approx(theirs, abs=1e-4)
