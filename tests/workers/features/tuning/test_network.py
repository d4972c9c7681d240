"""Training: it goes on from its checkpoints as if it had never stopped, and stops with words where it cannot."""

import json
import math
import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.workers.features.tuning.tiny_base import chat, examples, write_lines, write_recipe

from headrace_workers.features.tuning import network
from headrace_workers.features.tuning.network import (
    CHECKPOINTS,
    ORDERS,
    Checkpoints,
    Stopped,
    Trainer,
    batches,
    load_base,
    loss_of,
    parts_of,
)
from headrace_workers.features.tuning.recipe import Plan, plan_of
from headrace_workers.features.tuning.rows import Row
from headrace_workers.features.tuning.training import prepare

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # torch takes seconds to import


@pytest.fixture
def folder(plan: Plan, home: Path) -> Path:
    """The folder of a run that has not begun."""
    return prepare(plan, home)


def _train(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    Trainer(folder).run()
    return _events(capsys)


def _events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _losses(events: list[dict[str, Any]]) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events if event["kind"] == "step"}


def _change(folder: Path, **orders: Any) -> None:
    path = folder / ORDERS
    path.write_text(json.dumps(json.loads(path.read_text()) | orders))


def _die_before(step: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until this step, which is not computed."""
    whole = Trainer._one_step

    def dying(trainer: Trainer) -> float:
        if trainer._step == step - 1:
            raise KeyboardInterrupt
        return whole(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", dying)
        with pytest.raises(KeyboardInterrupt):
            Trainer(folder).run()


def test_the_loss_falls_and_the_held_out_part_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = _train(folder, capsys)
    losses = _losses(events)
    assert sorted(losses) == list(range(1, 13))
    assert losses[12] < losses[1]
    assert [event["step"] for event in events if event["kind"] == "evaluation"] == [0, 6, 12]
    assert events[-1]["kind"] == "trained"
    assert events[-1]["best_step"] == 12


def test_a_run_that_died_goes_on_as_if_it_had_not(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(folder, checkpoint_seconds=0)
    _die_before(9, folder, monkeypatch)
    before = _losses(_events(capsys))
    after = _train(folder, capsys)
    assert (after[0]["kind"], after[0]["step"]) == ("started", 8)
    for path in (folder / CHECKPOINTS).iterdir():
        path.unlink()
    whole = _train(folder, capsys)
    assert before | _losses(after) == _losses(whole)
    assert after[-1] | {"memory_bytes": 0} == whole[-1] | {"memory_bytes": 0}  # tokens, too


def test_a_corrupted_checkpoint_is_passed_over_for_the_one_before(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(folder, checkpoint_seconds=0)
    _die_before(9, folder, monkeypatch)
    newest = max((folder / CHECKPOINTS).glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    events = _train(folder, capsys)
    assert [(event["kind"], event.get("step")) for event in events[:2]] == [("corrupted", None), ("started", 7)]


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _change(folder, epochs=1)
    _train(folder, capsys)
    _change(folder, epochs=2)
    (folder / CHECKPOINTS / ".draft").symlink_to("/dev/full")
    with pytest.raises(Stopped, match=r"the checkpoint of step 12 cannot be written: No space left on device"):
        Trainer(folder).run()
    state = Checkpoints(folder).newest()
    assert state is not None
    assert state["step"] == 6


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_lines(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base has weights for the letter Z that are no numbers, and one line of 60 has one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from headrace_workers.models.convert import convert

    network = AutoModelForCausalLM.from_pretrained(home / "source")
    letter = AutoTokenizer.from_pretrained(home / "source").convert_tokens_to_ids("Z")
    network.get_input_embeddings().weight.data[letter] = math.nan
    network.save_pretrained(home / "source")
    convert(str(home / "source"), "tiny", home, "float32")
    write_lines(home / "data.jsonl", [*examples(40), chat("Z", "red")])
    write_lines(home / "aside.jsonl", examples(6))
    folder = prepare(plan_of(write_recipe(home, "source", held_out_data="aside.jsonl"), home), home)
    with pytest.raises(
        Stopped, match=r"the loss is no number at step \d+ \(lines .*\b41\b.*\): lower the learning rate"
    ):
        Trainer(folder).run()
    assert not [event for event in _events(capsys) if event["kind"] == "step" and not math.isfinite(event["loss"])]


def test_training_stops_when_the_held_out_loss_does_not_get_better(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _change(folder, epochs=50, patience=1, rate=1.0)
    trained = _train(folder, capsys)[-1]
    assert trained["stopped_early"]
    assert trained["best_step"] == trained["step"] - 6
    assert Checkpoints(folder).at(trained["best_step"]) is not None


def test_each_epoch_has_each_row_once_in_an_order_of_its_own() -> None:
    first, second = batches(10, 4, 7, 0), batches(10, 4, 7, 1)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
    assert first == batches(10, 4, 7, 0)


def test_a_part_holds_no_more_padded_tokens_than_it_may_and_a_longer_row_is_alone() -> None:
    rows = [Row(1, [1] * length, [2]) for length in (9, 99, 19, 19, 9)]
    assert [[row.tokens for row in part] for part in parts_of(rows, 40)] == [[100], [20, 20], [10, 10]]


def test_training_computes_on_as_many_threads_as_its_worker_may(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that answers on the same machine keeps its cores."""
    import torch

    monkeypatch.setattr(network, "available_cores", lambda: 3)
    load_base(home / "source")
    assert torch.get_num_threads() == 1
    monkeypatch.delenv("HEADRACE_INTER_THREADS")
    load_base(home / "source")
    assert torch.get_num_threads() == 3


def test_padding_changes_no_loss(home: Path) -> None:
    network = load_base(home / "source").eval()
    rows = [Row(1, [5, 6, 7, 8, 9, 10], [11, 2]), Row(2, [7], [12, 13, 14, 2])]
    together, alone = loss_of(network, rows), sum(loss_of(network, [row]) for row in rows)
    assert float(together.detach()) == pytest.approx(float(alone.detach()), rel=1e-5)


def test_the_loss_is_that_of_each_token_of_the_answer(home: Path) -> None:
    import torch

    network = load_base(home / "source").eval()
    row = Row(1, [5, 6, 7], [11, 2])
    with torch.no_grad():
        scores = network(torch.tensor([[5, 6, 7, 11]])).logits[0].log_softmax(-1)
        assert float(loss_of(network, [row])) == pytest.approx(-float(scores[2, 11] + scores[3, 2]), rel=1e-5)


def test_checkpoints_that_are_neither_new_nor_the_best_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _change(folder, checkpoint_seconds=0)
    _train(folder, capsys)
    steps = sorted(int(name.split("-")[1]) for name in os.listdir(folder / CHECKPOINTS))
    assert steps == [11, 12]
