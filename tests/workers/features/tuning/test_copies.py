"""Copies of tuned models in the store of files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.generation.models.registry import list_cards, load_card, read_card, write_card
from headrace_workers.features.tuning.copies import copy_model, remove_copy, sync_copy
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
    remove_copy(where, ALIAS)
    with pytest.raises(UnknownModel, match="it was deleted"):
        serve()
    assert list_cards(home) == []


def test_a_copy_that_is_not_as_it_was_written_is_refused_by_name(where: str, tmp_path: Path) -> None:
    (Path(where) / "models" / ALIAS / "tokenizer.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=f"{ALIAS}.*SHA-256 of tokenizer.json differs"):
        sync_copy(tmp_path / "other", where, ALIAS)
    assert not list((tmp_path / "other" / "models").iterdir())


def test_only_the_mark_of_a_copy_that_was_removed_stays(where: str) -> None:
    remove_copy(where, ALIAS)
    remove_copy(where, ALIAS)
    remove_copy(where, "ft-never-copied")
    assert [path.name for path in Path(where).rglob("*") if path.is_file()] == ["copy.json"]


def test_a_copy_that_broke_off_is_none(where: str, tmp_path: Path) -> None:
    (Path(where) / "models" / ALIAS / "copy.json").unlink()
    with pytest.raises(UnknownModel):
        sync_copy(tmp_path / "other", where, ALIAS)
