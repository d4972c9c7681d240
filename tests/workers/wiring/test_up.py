import os
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from headrace_workers.core import machine
from headrace_workers.features.tuning.copies import copy_model, remove_copy
from headrace_workers.files.object_store import Store
from headrace_workers.models import registry
from headrace_workers.models.registry import ModelCard, model_dir, write_card
from headrace_workers.testing import make_echo_model, make_hash_embedder
from headrace_workers.wiring import up
from headrace_workers.wiring.command_line import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    make_hash_embedder(tmp_path)
    card = ModelCard(
        alias="tickets", engine="classifier", source="labels.jsonl", licence="CC0-1.0", sha256="0" * 64,
        quantization="float32", size_bytes=1, context_length=256,
    )  # fmt: skip
    model_dir(tmp_path, "tickets").mkdir(parents=True)
    write_card(model_dir(tmp_path, "tickets"), card)
    return tmp_path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("named", "served"), [(["tickets", "echo"], ["echo", "tickets"]), (["tickets"], ["tickets"])])
def test_the_first_model_answers_prompts_where_one_can(
    named: list[str], served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers jobs that name no model, and judges."""
    runs: list[Any] = []
    monkeypatch.setattr(up, "_run_stack", lambda _home, models, *_: runs.append(models))
    assert run(["up", *(word for name in named for word in ("--model", name))]) == 0
    assert runs == [served]


def test_a_prompt_is_offered_only_to_a_model_that_answers_it(home: Path) -> None:
    offered, (prompt, *others) = up.trials(home, ["tickets"]), up.trials(home, ["echo", "tickets"])
    assert "--prompt" in prompt[0]
    assert offered == others


def test_tuned_models_are_served_where_there_is_memory_the_newest_first(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = home / "trained"
    for number, alias in enumerate(("ft-old", "ft-new")):
        os.utime(make_echo_model(home, alias) / "model.toml", (number, number))
    make_echo_model(trained, "ft-elsewhere")
    store = Store.at(str(home / "files"))
    copy_model(trained, store, "ft-elsewhere")
    make_echo_model(home, "ft-gone")
    copy_model(home, store, "ft-gone")
    remove_copy(store, "ft-gone")  # by another home
    monkeypatch.setattr(machine, "available_memory", lambda: up.STACK + 3 * up.WORKER + 1_000_000)
    models = up._models(home, ["echo", "ft-elsewhere"])
    served = up.Served(home, models)
    assert served.now() == [*models, "ft-new"] == ["echo", "ft-elsewhere", "ft-new"]
    assert "no memory to serve ft-old" in capsys.readouterr().err


def test_a_tuned_model_is_served_from_its_appearance_to_its_deletion(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "RESCAN_SECONDS", 0.0)
    monkeypatch.setattr(machine, "available_memory", lambda: up.STACK + 2 * up.WORKER + 1_000_000)
    folders = {alias: make_echo_model(home, alias) for alias in ("echo", "ft-first")}
    served = up.Served(home, ["echo"])
    assert served.now() == ["echo", "ft-first"]
    make_echo_model(home, "ft-second")
    assert served.now() == served.now() == ["echo", "ft-first"]
    assert capsys.readouterr().err.count("no memory to serve ft-second") == 1
    rmtree(folders["ft-first"])
    assert served.now() == ["echo", "ft-second"]
    rmtree(folders["echo"])
    assert "echo" not in served.now()
    make_echo_model(home, "echo")
    assert served.now()[0] == "echo"
