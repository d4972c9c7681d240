"""Copies of tuned models in the store of files."""

import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from tests.services.eventually import eventually
from tests.services.tables import sqlite_tables
from tests.workers.runtime.bridge.records import ALL_EXISTS, accept, record, rules_of

from headrace_schemas import GenerationJob, TuningJob
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.tuning import copies
from headrace_workers.features.tuning.admission import RunCheck
from headrace_workers.features.tuning.copies import SharedModels, copy_model, follow_copies, remove_copy, sync_copy
from headrace_workers.features.tuning.store import TuningRuns, begin_run, end_runs
from headrace_workers.files.object_store import Store
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry, list_cards, load_card, read_card, write_card
from headrace_workers.testing import make_echo_model
from headrace_workers.wiring import build_worker

ALIAS = "ft-echo-tickets-1"
LATER = 600.0  # seconds


@pytest.fixture
def where(tmp_path: Path) -> str:
    """A store that has the copy of a model of the tenant `shop`."""
    home = tmp_path / "trained"
    folder = make_echo_model(home, ALIAS)
    write_card(folder, replace(read_card(folder), tenant="shop"))
    (folder / "tokenizer.json").write_text("{}")
    store = tmp_path / "store"
    copy_model(home, Store.at(str(store)), ALIAS)
    return str(store)


def test_a_worker_follows_the_store_until_the_model_is_deleted(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "other"
    settings: dict[str, Any] = {
        "HEADRACE_HOME": str(home), "HEADRACE_FILES": where, "HEADRACE_LEDGER": "sqlite:///none",
        "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": "redis://localhost:1",
    }  # fmt: skip
    monkeypatch.setattr(build_worker, "run_worker", lambda *_args, **_options: 0)

    def serve(alias: str = ALIAS) -> int:
        return build_worker.serve(build_worker.Settings.from_env(settings), frozenset({"generate"}), alias, None)  # type: ignore[arg-type]

    assert serve() == 0
    settings["HEADRACE_FILES"] = "none-such://bucket"
    assert serve() == 0  # the model is here
    settings["HEADRACE_FILES"] = where
    assert load_card(home, ALIAS).tenant == "shop"
    assert (home / "models" / ALIAS / "tokenizer.json").read_text() == "{}"
    with pytest.raises(UnknownModel, match=f"ft-none is neither in {home}/models nor in the file store .* at {where}$"):
        serve("ft-none")
    remove_copy(Store.at(where), ALIAS)
    with pytest.raises(UnknownModel, match="it was deleted"):
        serve()
    assert list_cards(home) == []


def test_a_copy_that_is_not_as_it_was_written_is_refused_by_name(where: str, tmp_path: Path) -> None:
    (Path(where) / "models" / ALIAS / "tokenizer.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=f"{ALIAS}.*SHA-256 of tokenizer.json differs"):
        sync_copy(tmp_path / "other", where, ALIAS)
    assert not list((tmp_path / "other" / "models").iterdir())


def test_only_the_mark_of_a_copy_that_was_removed_stays(where: str) -> None:
    remove_copy(Store.at(where), ALIAS)
    remove_copy(Store.at(where), ALIAS)
    remove_copy(Store.at(where), "ft-never-copied")
    assert [path.name for path in Path(where).rglob("*") if path.is_file()] == ["copy.json"]


def test_a_copy_that_is_not_wanted_any_more_is_none(where: str, tmp_path: Path) -> None:
    remove_copy(Store.at(where), ALIAS)  # its run was cancelled, and the model was deleted

    for checks in range(3):  # before each of two files, and before the list
        with pytest.raises(StopIteration):
            copy_model(tmp_path / "trained", Store.at(where), ALIAS, iter(range(checks)).__next__)
    with pytest.raises(UnknownModel, match="it was deleted"):
        sync_copy(tmp_path / "other", where, ALIAS)


def test_a_copy_that_broke_off_is_none(where: str, tmp_path: Path) -> None:
    (Path(where) / "models" / ALIAS / "copy.json").unlink()
    with pytest.raises(UnknownModel):
        sync_copy(tmp_path / "other", where, ALIAS)


def test_the_home_of_a_stack_has_what_the_store_has_and_one_broken_copy_is_told_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[int] = []
    look = Store.objects

    def objects(store: Store, folder: str) -> list[str]:
        rounds.append(1)
        if len(rounds) == 2:
            raise Unavailable("the store is away")
        return look(store, folder)

    monkeypatch.setattr(copies, "_FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(Store, "objects", objects)
    trained, home, stopped = tmp_path / "trained", tmp_path / "other", Event()
    make_echo_model(home, "ft-by-hand")
    make_echo_model(trained, "ft-a-broken")
    copy_model(trained, Store.at(where), "ft-a-broken")
    (Path(where) / "models" / "ft-a-broken" / "model.toml").write_text("")
    opened: list[str] = []
    read = Store.open
    monkeypatch.setattr(Store, "open", lambda store, path: opened.append(path) or read(store, path))
    thread = Thread(target=follow_copies, args=(home, where, stopped))
    thread.start()
    try:
        eventually(lambda: len(rounds) > 5 and [card.alias for card in list_cards(home)] == ["ft-by-hand", ALIAS])
        told = [record.getMessage() for record in caplog.records if "tuned models of other" in record.getMessage()]
        assert ["differs" in line for line in told] == [True, False, True]  # between, the store was away
        assert opened.count("models/ft-a-broken/model.toml") == 1  # such a copy may be large
        remove_copy(Store.at(where), ALIAS)
        eventually(lambda: [card.alias for card in list_cards(home)] == ["ft-by-hand"])
    finally:
        stopped.set()
        thread.join()


def test_a_copy_that_is_fetched_when_all_stops_leaves_nothing(where: str, tmp_path: Path) -> None:
    stopped = Event()
    stopped.set()
    with pytest.raises(Unavailable, match="this process ends"):
        sync_copy(tmp_path / "other", where, ALIAS, stopped)
    assert not list((tmp_path / "other" / "models").iterdir())


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is so slow that a look takes longer, and that another is due meanwhile."""
    monkeypatch.setattr(copies, "_LOOK_SECONDS", 60.0)
    monkeypatch.setattr(copies, "_AGAIN_SECONDS", LATER)
    monkeypatch.setattr(copies, "_FOLLOW_SECONDS", LATER)


def known_in(home: Path, where: str) -> tuple[SharedModels, CountingModels]:
    """What admission knows in a home, whose store of files is this."""
    return SharedModels(home, where), CountingModels(home, Registry(home))


@pytest.mark.parametrize("sees_it", ["admission", "headrace up"])
def test_a_model_of_another_machine_is_known_by_its_copy_without_its_weights_until_it_is_deleted(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees_it: str
) -> None:
    home = tmp_path / "other"
    weights = tmp_path / "trained" / "models" / ALIAS / "model.bin"
    weights.write_text("w")
    copy_model(tmp_path / "trained", Store.at(where), ALIAS)
    shared, models = known_in(home, where)
    assert not models.knows(ALIAS, "shop")
    assert shared.due(ALIAS)
    shared.look_up([ALIAS, "ft-none"])
    assert models.knows(ALIAS, "shop")
    assert not models.knows(ALIAS, "another")
    assert not models.knows("ft-none", "shop")
    assert models.context_length(ALIAS)
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["model.toml", "tokenizer.json"]
    assert list_cards(home) == []  # nobody serves it here
    remove_copy(Store.at(where), ALIAS)
    assert not shared.due(ALIAS)  # that was asked a moment ago
    if sees_it == "admission":
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + LATER)
        monkeypatch.setattr(copies, "time", clock)
        assert shared.due(ALIAS)
        shared.look_up([ALIAS])
    else:
        with pytest.raises(UnknownModel, match="it was deleted"):
            sync_copy(home, where, ALIAS)
    assert not models.knows(ALIAS, "shop")


@pytest.mark.parametrize("kept", [True, False], ids=["that lies there", "that is broken"])
def test_admission_looks_for_models_that_runs_of_their_tenants_made_and_for_each_once_a_while(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    looks = list[str]()
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda store, path: looks.append(path) or read(store, path))
    if not kept:
        Store.at(where).write(f"models/{ALIAS}/model.toml", [b"other"])
    with closing(Ledger.at(sqlite_tables(tmp_path / "ledger.db"))) as ledger:
        rules = rules_of(ledger)
        check = next(check for check in rules.checks if isinstance(check, RunCheck))
        check._shared, models = known_in(tmp_path / "other", where)
        unmade = [("shop", f"ft-none-{number}") for number in range(3)]
        check.unknown([("another", ALIAS), *unmade])
        assert looks == []
        made(ledger, "shop", ALIAS)
        check.unknown([("shop", ALIAS), *unmade])
        assert models.knows(ALIAS, "shop") == kept
        check.unknown([("shop", ALIAS)])
        assert looks == [f"models/{ALIAS}/copy.json"]
        ledger.of(TuningRuns).forget_alias(ALIAS, "shop")  # it is deleted by another machine
        remove_copy(Store.at(where), ALIAS)
        monkeypatch.setattr(copies, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + LATER))
        check.unknown([("shop", ALIAS)])
        assert not models.knows(ALIAS, "shop")


def made(ledger: Ledger, tenant: str, alias: str) -> None:
    """Write a run that succeeded, with this model."""
    job = TuningJob(tenant=tenant, model="base", training_file="file-1")
    told = {"tuned": {"aliases": [alias], "usage": {"prompt_tokens": 1}}}
    with writing(ledger.engine) as tx:
        begin_run(tx, "made", tenant, job.model_dump_json().encode())
        end_runs(tx, {"made": json.dumps(told).encode()})


def test_admission_does_not_wait_for_a_store_that_hangs_and_takes_one_that_fails_for_empty(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared, models = known_in(tmp_path / "other", where)
    looks, goes_on, read = [], Event(), Store.read

    def hang(store: Store, path: str) -> bytes:
        looks.append(path)
        assert goes_on.wait(60)
        return read(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_LOOK_SECONDS", 0.01)
        patch.setattr(Store, "read", hang)
        for _ in range(2):
            shared.look_up([ALIAS])
        assert not models.knows(ALIAS, "shop")
        goes_on.set()
        shared._thread.join()
    assert looks == [f"models/{ALIAS}/copy.json"]
    assert models.knows(ALIAS, "shop")  # what was late counts, too
    shared, models = known_in(tmp_path / "third", "none-such://bucket")
    shared.look_up([ALIAS])
    assert not models.knows(ALIAS, "shop")
    assert not SharedModels(tmp_path / "third", "").due(ALIAS)  # no store is shared
    (tmp_path / "fourth").write_text("no folder")
    shared, models = known_in(tmp_path / "fourth", where)
    shared.look_up([ALIAS])
    assert "HEADRACE_HOME must be a folder that this user can write" in caplog.text
    assert not shared.due(ALIAS)  # for so long


@pytest.mark.parametrize(
    "job",
    [
        GenerationJob(tenant="shop", model=ALIAS, prompt="a"),
        GenerationJob(tenant="shop", model=("echo", ALIAS), prompt="a"),
        TuningJob(tenant="shop", model=ALIAS, training_file="file-1"),
    ],
)
def test_a_bridge_takes_a_job_for_a_model_that_was_published_elsewhere_a_moment_ago(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any
) -> None:
    make_echo_model(tmp_path / "other")
    shared, models = known_in(tmp_path / "other", where)
    with closing(Ledger.at(sqlite_tables(tmp_path / "ledger.db"))) as ledger:
        made(ledger, "shop", ALIAS)
        monkeypatch.setattr(ALL_EXISTS, "made", ledger.of(TuningRuns).made, raising=False)
        rules = rules_of(ALL_EXISTS, models=models)
        check = next(check for check in rules.checks if isinstance(check, RunCheck))
        assert isinstance(accept(record(job), rules), Burial)
        check._shared = shared
        assert isinstance(accept(record(job), rules), NewJob)
