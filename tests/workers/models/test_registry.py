from dataclasses import replace
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.core.pipeline.routing import ServedModel
from headrace_workers.models.registry import (
    Registry,
    list_cards,
    load_card,
    model_dir,
    read_card,
    staged_model,
    write_card,
)
from headrace_workers.testing import make_echo_model, make_hash_embedder


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_card_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = make_echo_model(tmp_path, "echo-1")
    card = read_card(folder)
    assert card.alias == "echo-1"
    assert card.engine == "echo"
    assert load_card(tmp_path, "echo-1") == card
    assert list_cards(tmp_path) == [card]


def test_an_unknown_alias_names_those_that_are_there(tmp_path: Path) -> None:
    """The message says what could have been meant."""
    make_echo_model(tmp_path, "left")
    make_echo_model(tmp_path, "right")
    with pytest.raises(UnknownModel, match="left, right"):
        load_card(tmp_path, "middle")
    with pytest.raises(UnknownModel, match="left, right"):
        Registry(tmp_path).get("middle")


def test_an_empty_home_knows_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "nowhere")
    assert "echo" not in registry
    with pytest.raises(UnknownModel, match="none"):
        registry.get("echo")


def test_a_new_model_is_known_at_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path, monotonic=Clock())
    assert registry.aliases() == []
    assert "echo" not in registry
    make_echo_model(tmp_path)
    assert "echo" in registry
    assert registry.get("echo").engine == "echo"
    assert registry.aliases() == ["echo"]


def test_all_models_are_looked_through_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    registry = Registry(tmp_path, monotonic=clock)
    folder = make_echo_model(tmp_path)
    assert registry.aliases() == ["echo"]
    folder.rename(folder.with_name("other"))
    assert registry.aliases() == ["echo"]
    clock.seconds += 1.0
    assert registry.aliases() == []
    assert "echo" not in registry


def test_a_card_that_cannot_be_used_is_said_once_and_mended_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A burst of jobs for it is no burst of lines in the log, nor is a bridge that asks every second."""
    path = make_echo_model(tmp_path) / "model.toml"
    good = path.read_text()
    path.write_text("alias = ")
    clock = Clock()
    registry = Registry(tmp_path, monotonic=clock)
    for _ in range(3):
        assert "echo" not in registry
        assert registry.aliases() == []
        clock.seconds += 1.0
    assert len(caplog.records) == 1
    path.write_text(good)
    assert "echo" in registry


def test_a_hit_does_not_touch_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_echo_model(tmp_path)
    clock = Clock()
    registry = Registry(tmp_path, monotonic=clock)
    assert "echo" in registry
    clock.seconds += 60.0
    monkeypatch.setattr(
        "headrace_workers.models.registry.read_card",
        lambda folder: pytest.fail("looked at the disk"),
    )
    monkeypatch.setattr("headrace_workers.models.registry.model_dir", lambda *_: pytest.fail("looked at the disk"))
    assert "echo" in registry
    assert registry.get("echo").alias == "echo"


def test_a_tuned_model_that_is_deleted_is_unknown_at_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path, monotonic=Clock())
    folder = make_echo_model(tmp_path, "ft-echo-1")
    assert "ft-echo-1" in registry
    (folder / "model.toml").unlink()
    assert "ft-echo-1" not in registry
    assert registry.aliases() == []


@pytest.mark.parametrize(
    ("line", "damage", "says"),
    [
        ("", "alias = ", "cannot be read"),
        ("size_bytes", "", "size_bytes: is missing"),
        ("repetition_penalty", "repetition_penalty = 0.0", "repetition_penalty: must be greater than 0"),
        ("kind", 'kind = "embedder"', "engine 'echo' of this embedder is not one of ctranslate2, hash"),
        ("engine", 'engine = "openai"', "engine 'openai' of this generator is not one of ctranslate2, echo"),
    ],
)
def test_a_broken_card_is_left_out_and_named_when_asked_for(tmp_path: Path, line: str, damage: str, says: str) -> None:
    make_echo_model(tmp_path, "good")
    path = make_echo_model(tmp_path, "bad") / "model.toml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(damage if text.startswith(line) else text for text in lines))
    assert [card.alias for card in list_cards(tmp_path)] == ["good"]
    with pytest.raises(ConfigurationError, match=says):
        load_card(tmp_path, "bad")


def test_a_card_that_names_no_kind_is_a_generators(tmp_path: Path) -> None:
    path = make_echo_model(tmp_path) / "model.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("kind")))
    assert load_card(tmp_path, "echo").kind == "generator"
    assert "echo" in Registry(tmp_path)


def test_jobs_may_not_name_an_embedder(tmp_path: Path) -> None:
    make_hash_embedder(tmp_path)
    make_echo_model(tmp_path)
    registry = Registry(tmp_path)
    assert "hash" not in registry
    assert registry.aliases() == ["echo"]
    assert "hash" not in registry
    with pytest.raises(UnknownModel, match="known there: echo"):
        registry.get("hash")
    assert [(card.alias, card.kind) for card in list_cards(tmp_path)] == [("echo", "generator"), ("hash", "embedder")]


def test_a_folder_that_is_still_being_made_is_not_seen(tmp_path: Path) -> None:
    folder = make_echo_model(tmp_path, "echo")
    folder.rename(folder.with_name(".echo-draft"))
    assert list_cards(tmp_path) == []


@pytest.mark.parametrize("alias", ["../etc", "", ".hidden", "A", "a/b", "a" * 65])
def test_no_alias_leads_out_of_the_home(tmp_path: Path, alias: str) -> None:
    assert alias not in Registry(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot name a model"):
        model_dir(tmp_path, alias)


def test_the_bound_of_int8_weights_is_part_of_the_version(tmp_path: Path) -> None:
    folder = make_echo_model(tmp_path, "small")
    versions = []
    for weight_range in ("", "pairs"):
        card = replace(read_card(folder), quantization="int8", sha256="0" * 64, weight_range=weight_range)
        write_card(folder, card)
        assert read_card(folder) == card
        versions.append(Registry(tmp_path).version("small"))
    assert versions == ["small/int8/000000000000", "small/int8_pairs/000000000000"]


def test_the_version_names_a_penalty_of_the_models_own(tmp_path: Path) -> None:
    folder = make_echo_model(tmp_path)
    assert Registry(tmp_path).version("echo") == "echo/none/"
    write_card(folder, replace(read_card(folder), repetition_penalty=1.1))
    assert Registry(tmp_path).version("echo") == "echo/none//r1.1"


REMOTE = 'engine = "openai"\nmodel = "m"\nendpoint = "http://localhost:9/v1"\ncontext_length = 4096\n'


def write_catalogue(home: Path, *aliases: str, more: str = "") -> None:
    (home / "models.toml").write_text("".join(f"[models.{alias}]\n{REMOTE}" for alias in aliases) + more)


def test_a_model_of_the_catalogue_answers_to_its_alias(tmp_path: Path) -> None:
    write_catalogue(tmp_path, "far", more='[chains.safe]\nmodels = ["far", "echo"]\n')
    make_echo_model(tmp_path)
    registry = Registry(tmp_path, monotonic=Clock())
    assert registry.aliases() == ["echo", "far"]
    assert registry.served() == [ServedModel("echo"), ServedModel("far", 64)]
    assert registry.version("far") == "far/http://localhost:9/v1#m"
    assert registry.chain("safe") == ("far", "echo")
    assert registry.chain("far") is None
    assert load_card(tmp_path, "far") == registry.get("far")


def test_a_folder_goes_before_an_entry_of_the_same_name(tmp_path: Path) -> None:
    """A model on this machine is never replaced by one on another: its prompts would leave."""
    write_catalogue(tmp_path, "echo")
    assert load_card(tmp_path, "echo").remote is not None
    make_echo_model(tmp_path)
    assert Registry(tmp_path, monotonic=Clock()).get("echo").engine == "echo"
    assert load_card(tmp_path, "echo").remote is None
    assert [card.engine for card in list_cards(tmp_path)] == ["echo"]


def test_a_broken_catalogue_leaves_the_last_good_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_catalogue(tmp_path, "far")
    clock = Clock()
    registry = Registry(tmp_path, monotonic=clock)
    assert registry.aliases() == ["far"]
    for text in ("[models.far", f"[models.far]\n{REMOTE.replace('openai', 'abacus')}provider = 'x'\n"):
        (tmp_path / "models.toml").write_text(text)
        caplog.clear()
        for _ in range(3):
            clock.seconds += 1.0
            assert registry.aliases() == ["far"]
        assert len(caplog.records) == 1
    write_catalogue(tmp_path, "near")
    clock.seconds += 1.0
    assert registry.aliases() == ["near"]


def test_a_changed_catalogue_is_read_within_a_second(tmp_path: Path) -> None:
    write_catalogue(tmp_path, "far")
    clock = Clock()
    registry = Registry(tmp_path, monotonic=clock)
    assert "far" in registry
    write_catalogue(tmp_path, "near")
    assert "near" in registry
    clock.seconds += 1.0
    assert registry.aliases() == ["near"]
    assert "far" not in registry


def test_a_draft_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with staged_model(tmp_path, "m") as draft:
            (draft / text).write_text(text)
    assert [path.name for path in (tmp_path / "models" / "m").iterdir()] == ["second"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    with staged_model(tmp_path, "m") as draft:
        (draft / "good").write_text("good")

    def fail() -> None:
        with staged_model(tmp_path, "m") as draft:
            (draft / "half").write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m"]
    assert [path.name for path in (tmp_path / "models" / "m").iterdir()] == ["good"]
