import json
import os
from pathlib import Path

import pytest
from tests.services.eventually import eventually

from headrace_workers.cli import children
from headrace_workers.cli.children import LogWatch, children_of, still_starting
from headrace_workers.features.tuning import stage
from headrace_workers.runtime.embedded.child_processes import ChildFailed
from headrace_workers.runtime.embedded.stack import Addresses
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings


@pytest.fixture(autouse=True)
def no_room_to_tune(monkeypatch):
    """Whether this machine can have a worker that tunes is of no interest but to the test of that."""
    monkeypatch.setattr(stage, "available_memory", lambda: 0)


def test_only_what_was_written_since_counts(tmp_path: Path):
    log = tmp_path / "w.log"
    log.write_text("ready for work\n")
    watch = LogWatch(log, "ready for work")
    watch.mark()
    assert not watch.seen()
    log.write_text(log.read_text() + "ready for work\n")
    assert watch.seen()


def test_a_log_that_was_put_aside_is_read_from_its_beginning(tmp_path: Path):
    log = tmp_path / "w.log"
    log.write_text("x" * 1000)
    watch = LogWatch(log, "ready")
    watch.mark()
    log.unlink()
    assert not watch.seen()
    log.write_text("ready")
    assert watch.seen()


def test_a_process_that_ended_instead_is_told_with_its_log(tmp_path: Path):
    rows = [{"name": "alive", "pid": os.getpid()}, {"name": "gone", "pid": 2**22 + 1}]
    (tmp_path / "children.json").write_text(json.dumps(rows))
    watches = {name: LogWatch(tmp_path / f"{name}.log", "ready") for name in ("alive", "gone")}
    with pytest.raises(ChildFailed, match=r"gone ended.*gone\.log"):
        still_starting(tmp_path, watches)
    (tmp_path / "gone.log").write_text("ready")
    assert still_starting(tmp_path, watches) == ["alive"]


def test_children_are_told_everything(tmp_path: Path):
    addresses = Addresses("k:1", "redis://r", "sqlite:///l")
    specs = children_of(tmp_path, lambda: ["a", "b"], engine_threads=3)(addresses)
    assert [spec.name for spec in specs] == ["generate-a", "generate-b", "recall-moderate-judge-deliver", "bridge"]
    assert list(specs[1].argv)[-5:] == ["worker", "--role", "generate", "--model", "b"]
    assert specs[0].env == {
        **addresses.env(),
        "HEADRACE_HOME": str(tmp_path), "HEADRACE_JUDGE_MODEL": "a", "HEADRACE_INTER_THREADS": "3",
    }  # fmt: skip
    assert addresses.env().items() >= {"HEADRACE_KAFKA": "k:1", "HEADRACE_LEDGER": "sqlite:///l"}.items()


def test_only_models_that_were_named_and_stayed_must_be_served(tmp_path: Path):
    addresses = Addresses("k:1", "redis://r", "sqlite:///l")

    def optional() -> dict[str, str]:
        return {spec.name.removeprefix("generate-"): spec.optional for spec in specs(addresses) if spec.optional}

    served = ["a", "ft-b", "ft-c"]
    specs = children_of(tmp_path, lambda: served, named=["a", "ft-b"])
    assert list(optional()) == ["ft-c"]
    for part in (f"{tmp_path}/models/ft-c", "headrace models delete ft-c"):
        assert part in optional()["ft-c"]
    served.remove("ft-b")
    assert list(optional()) == ["ft-c"]
    served.append("ft-b")  # a model that was away may come back without its weights
    assert list(optional()) == ["ft-c", "ft-b"]


def test_nothing_waits_for_the_worker_of_a_model_that_was_not_named(tmp_path: Path):
    specs = children_of(tmp_path, lambda: ["a", "ft-b"], named=["a"])(Addresses("k:1", "redis://r", "sqlite:///l"))
    (tmp_path / "log").mkdir()
    (tmp_path / "children.json").write_text(json.dumps([{"name": "generate-ft-b", "pid": 2**22 + 1}]))
    (ready,) = [spec.ready for spec in specs if spec.ready]
    assert not ready()
    for spec in specs[:1] + specs[2:]:
        (tmp_path / "log" / f"{spec.name}.log").write_text("ready for work" if spec.works else "the bridge runs")
    assert ready()
    assert [spec.was_ready() for spec in specs] == [True, False, True, True]


def test_models_on_other_machines_have_one_worker_together(tmp_path: Path):
    addresses = Addresses("k:1", "redis://r", "sqlite:///l")
    specs = children_of(tmp_path, lambda: ["far", "a"], elsewhere={"far"})(addresses)
    assert [spec.name for spec in specs][:2] == ["generate-a", "generate-remote"]
    assert list(specs[1].argv)[-4:] == ["worker", "--role", "generate", "--remote"]
    assert (specs[0].env or {})["HEADRACE_JUDGE_MODEL"] == "far"
    assert "generate-remote" in [spec.name for spec in children_of(tmp_path, lambda: ["a"], elsewhere=())(addresses)]


def test_children_are_watched_for_signs_of_life(tmp_path: Path, monkeypatch):
    """By what they write down; they have more time than they would give themselves."""
    monkeypatch.setenv("HEADRACE_STUCK", "7")
    monkeypatch.setenv("HEADRACE_LEASE", "3")
    addresses = Addresses("k:1", "redis://r", "sqlite:///l")
    (worker, bridge) = children_of(tmp_path, list)(addresses)
    assert worker.silence_seconds == bridge.silence_seconds == 10.0
    with watched("worker", Settings.from_env({**os.environ, **(worker.env or {})}), tick=0.01):
        first = worker.sign_of_life(os.getpid())
        eventually(lambda: worker.sign_of_life(os.getpid()) > first)
        assert bridge.sign_of_life(os.getpid()) is None
    assert worker.sign_of_life(os.getpid()) is None


def test_a_worker_that_tunes_runs_where_the_extra_is_and_memory_for_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stage, "available_memory", lambda: 8_000_000_000)
    for is_installed in (True, False):
        monkeypatch.setattr(stage, "find_spec", lambda _name, found=is_installed: found or None)
        specs = children_of(tmp_path, list)(Addresses("k:1", "redis://r", "sqlite:///l"))
        tuning = [list(spec.argv)[-3:] for spec in specs if spec.name == "tune"]
        assert tuning == [["worker", "--role", "tune"]] * is_installed


def test_without_a_model_there_is_no_worker_for_one(tmp_path: Path):
    specs = children_of(tmp_path, list)(Addresses("k:1", "redis://r", "sqlite:///l"))
    assert [spec.name for spec in specs] == ["recall-moderate-judge-deliver", "bridge"]
    assert (specs[0].env or {})["HEADRACE_JUDGE_MODEL"] == ""


def test_who_is_late_is_named_and_in_the_end_an_error(tmp_path: Path, capsys):
    watches = {name: LogWatch(tmp_path / f"{name}.log", "ready") for name in ("bridge", "moderate")}
    (tmp_path / "bridge.log").write_text("ready")
    now = [0.0]
    patience = children._Patience(tmp_path, watches, lambda: now[0])
    assert not patience.over()
    assert capsys.readouterr().err == ""
    for now[0] in (20.0, 40.0):
        assert not patience.over()
    assert capsys.readouterr().err == "waiting for moderate\n"
    now[0] = 601.0
    with pytest.raises(ChildFailed, match=r"moderate: not ready after 600 s; see .*moderate\.log"):
        patience.over()
    (tmp_path / "moderate.log").write_text("ready")
    assert patience.over()
