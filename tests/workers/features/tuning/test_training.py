"""Whole runs: what was trained is what is served, or nothing is published."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.services.eventually import eventually
from tests.workers.features.tuning.tiny_base import examples, write_lines, write_recipe

from headrace_schemas import Message, Sampling
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.features.tuning import publish, training
from headrace_workers.features.tuning.network import CHECKPOINTS, ORDERS, Stopped, Trainer
from headrace_workers.features.tuning.recipe import Plan, plan_of
from headrace_workers.features.tuning.rows import UnfitData
from headrace_workers.features.tuning.training import Process, locked, prepare, run_folder, tune
from headrace_workers.models import registry
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # torch takes seconds to import


@pytest.fixture(scope="session")
def trained_once(base_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is trained and not published. Others copy it: write nothing there."""
    home = tmp_path_factory.mktemp("trained") / "home"
    shutil.copytree(base_home, home)
    write_lines(home / "data.jsonl", examples(60))
    folder = prepare(plan_of(write_recipe(home, "source"), home), home)
    Trainer(folder).run()
    step = max(int(path.name.split("-")[1]) for path in (folder / CHECKPOINTS).iterdir())
    (folder / "trained.json").write_text(json.dumps({"best_step": step}))
    return folder


@pytest.fixture
def trained(trained_once: Path, plan: Plan, home: Path) -> Path:
    """A copy of that folder in the home of the test."""
    folder = run_folder(home, plan)
    shutil.copytree(trained_once, folder)
    orders, there = folder / ORDERS, trained_once.parents[1]
    orders.write_text(orders.read_text().replace(str(there.resolve()), str(home.resolve())))
    return folder


def _models(home: Path) -> list[str]:
    return [card.alias for card in registry.list_cards(home)]


def _children() -> set[psutil.Process]:
    """Return the children of this process: services of earlier tests are among them."""
    return set(psutil.Process().children())


def test_a_run_that_was_killed_goes_on_and_serves_what_it_trained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(write_recipe(home, "source", tenant="shop"), home)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    stops = "from tests.workers.features.tuning.forked import stop_after; stop_after(7); from headrace_workers.features"
    monkeypatch.setattr(training, "_PROGRAM", training._PROGRAM.replace("from headrace_workers.features", stops))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    events: list[dict[str, Any]] = []
    others = _children()

    def kill(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] == 7:
            (child,) = _children() - others
            child.kill()

    with pytest.raises(Unavailable, match="the process that trains ended with -9"):
        tune(plan, home, kill)
    left = run_folder(home, plan) / ".merged-by-one-that-was-killed"
    left.mkdir()
    assert _models(home) == ["tiny"]
    published = tune(plan, home, events.append)
    assert not left.exists()
    begun = next(event for event in events if event["kind"] == "started")
    assert begun["step"] == 7
    alias = f"ft-tiny-tuned-{plan.id}"
    assert published["aliases"] == [alias]
    assert published["logit_difference"] < 1e-3
    folder = registry.model_dir(home, alias)
    lineage = json.loads((folder / publish.LINEAGE).read_text())
    assert lineage["sha256"] == plan.sha256
    assert lineage["recipe"]["base"] == lineage["base"]["alias"] == "tiny"
    assert lineage["metrics"]["prompts"] == published["prompts"] > 6
    answer = CTranslate2Generator.load(folder, device="cpu").generate(
        [Request((Message(role="user", content="3 fig"),), Sampling(max_tokens=4))]
    )[0]
    assert isinstance(answer, Completion)
    assert registry.read_card(folder).tenant == "shop"
    assert lineage["estimated_memory_bytes"] > lineage["metrics"]["memory_bytes"] / 2
    shown: list[object] = []
    assert tune(plan, home, shown.append)["aliases"] == [alias]  # it is there: nothing is done
    assert shown == []


def test_an_interrupted_command_leaves_no_process_and_publishes_nothing(trained: Path, plan: Plan, home: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["kind"] == "started":
            raise KeyboardInterrupt

    others = _children()
    with pytest.raises(KeyboardInterrupt):
        tune(plan, home, interrupt)
    assert _children() - others == set()
    assert _models(home) == ["tiny"]
    with locked(trained):
        pass


def test_nothing_is_published_if_serving_builds_other_ids(trained: Path, home: Path) -> None:
    config = registry.model_dir(home, "tiny") / "tokenizer_config.json"
    changed = json.loads(config.read_text())
    changed["chat_template"] = changed["chat_template"].replace("assistant", "model")
    config.write_text(json.dumps(changed))
    with pytest.raises(Stopped, match="serving builds other ids for a prompt than training did"):
        publish.Publisher(trained).publish()
    assert _models(home) == ["tiny"]


def test_nothing_is_published_if_the_served_network_is_not_the_trained_one(
    trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that loses the adapter: weights of the base, which answer fluently."""
    whole = publish.convert_transformers
    monkeypatch.setattr(publish, "convert_transformers", lambda _, draft, kind: whole(home / "source", draft, kind))
    with pytest.raises(Stopped, match=r"logits of the served network differ from the trained one's by \d"):
        publish.Publisher(trained).publish()
    assert _models(home) == ["tiny"]


def test_nothing_is_published_if_an_answer_through_the_serving_path_differs(
    trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right network with other ends of an answer: it would stop elsewhere."""
    whole = publish._greedy
    monkeypatch.setattr(publish, "_greedy", lambda *given: ([*whole(*given)[0], 70, 71], None))
    with pytest.raises(Stopped, match="answers a held-out prompt unlike the trained one"):
        publish.Publisher(trained).publish()
    assert _models(home) == ["tiny"]


def test_data_that_changes_while_it_is_read_is_refused(plan: Plan, home: Path) -> None:
    with (home / "data.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UnfitData, match=r"data\.jsonl changed while it was read"):
        prepare(plan, home)
    assert not run_folder(home, plan).exists()


def test_data_that_changes_later_changes_nothing(plan: Plan, home: Path) -> None:
    folder = prepare(plan, home)
    before = (folder / "train.jsonl").read_bytes()
    write_lines(home / "data.jsonl", [])
    assert prepare(plan, home) == folder
    assert (folder / "train.jsonl").read_bytes() == before


def test_too_little_memory_is_said_before_training(plan: Plan, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "available_memory", lambda: 500_000_000)
    with pytest.raises(ConfigurationError, match=r"takes about \d\.\d GB of memory, and this machine has 0\.5 GB"):
        prepare(plan, home)


def test_too_little_disk_is_said_before_training(plan: Plan, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "available_memory", lambda: None)
    with pytest.raises(ConfigurationError, match=r"the run needs about \d+\.\d GB on the disk"):
        prepare(replace(plan, base=replace(plan.base, size_bytes=10**15 // 2, quantization="float32")), home)


def test_a_run_that_another_process_trains_is_not_begun_twice(plan: Plan, home: Path) -> None:
    folder = prepare(plan, home)
    with locked(folder), pytest.raises(Unavailable, match="is trained by another process already"):
        tune(plan, home, print)


def test_a_process_that_outlives_its_parent_keeps_the_run(plan: Plan, home: Path) -> None:
    """Two of them would write the same checkpoints."""
    folder = prepare(plan, home)
    with locked(folder) as lock:
        process = Process("train", folder, lock)
    with pytest.raises(Unavailable), locked(folder):
        pass
    process.kill()
    with locked(folder):
        pass


def _ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_ends_when_nobody_lets_it_go_on(plan: Plan, home: Path) -> None:
    process = Process("train", prepare(plan, home))
    process.allow(0)
    eventually(lambda: _ended(process._child.pid))
    process.kill()


def test_a_process_that_says_nothing_any_more_is_ended(plan: Plan, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep its job for ever, as one does that waits for a disk which does not answer."""
    process = Process("train", prepare(plan, home))
    events = process.events()
    assert next(events)["kind"] == "started"
    os.kill(process._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(training, "SILENT_SECONDS", 0.0)
    with pytest.raises(Unavailable, match=r"said nothing for 0 minutes, and was ended.*train\.log"):
        list(events)
    assert process.has_died


def test_a_part_that_takes_long_says_that_the_process_lives(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish.Publisher(trained).publish()
    assert capsys.readouterr().out.count('"alive"') > 20


def test_a_process_ends_with_its_parent(plan: Plan, home: Path) -> None:
    program = (
        "import sys, time, pathlib, headrace_workers.wiring\n"
        "from headrace_workers.features.tuning.training import Process\n"
        "print(Process('train', pathlib.Path(sys.argv[1]))._child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    folder = prepare(plan, home)
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: _ended(child))
