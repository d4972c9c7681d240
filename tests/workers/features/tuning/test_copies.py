"""Copies of tuned models in the store of files."""

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.services.eventually import eventually

from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.generation.models.registry import list_cards, load_card, read_card, write_card
from headrace_workers.features.tuning import copies
from headrace_workers.features.tuning.copies import copy_model, follow_copies, remove_copy, sync_copy
from headrace_workers.testing import make_echo_model
from headrace_workers.wiring import build_worker

ALIAS = "ft-echo-tickets-1"


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
