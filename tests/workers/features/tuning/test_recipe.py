"""Recipes: what is refused before anything is trained, and with which words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.workers.features.tuning.tiny_base import chat, write_lines, write_recipe

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.features.tuning.recipe import Plan, plan_of, read_recipe
from headrace_workers.models.registry import model_dir, read_card, sha256_of, write_card
from headrace_workers.testing import make_tiny_model


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the base `tiny`, which says that it was made of the file `base.gguf`."""
    make_tiny_model(tmp_path)
    (tmp_path / "base.gguf").write_bytes(b"weights")
    _change_card(tmp_path, source=f"file:base.gguf#sha256={sha256_of(tmp_path / 'base.gguf')}")
    write_lines(tmp_path / "data.jsonl", [chat("a", "b")])
    return tmp_path


def _change_card(home: Path, **values: Any) -> None:
    folder = model_dir(home, "tiny")
    write_card(folder, replace(read_card(folder), **values))


def _plan(home: Path, more: str = "", **values: Any) -> Plan:
    return plan_of(write_recipe(home, "base.gguf", more, **values), home)


@pytest.mark.parametrize(
    ("more", "values", "words"),
    [
        ("", {"bsae": "tiny"}, "line 5: bsae: is no field that is known here; known are base, source, data, held_"),
        (
            "[training]\nepoch = 3",
            {},
            "line 6: training.epoch: is no field that is known here; known are epochs",
        ),
        ("[lora]\nr = 3", {}, "line 6: lora.r: is no field that is known here; known are rank, alpha, targets"),
        ("[training]\nepochs = 51", {}, "line 6: training.epochs"),
        ("[lora]\nrank = 0", {}, "line 6: lora.rank"),
        ("", {"suffix": "Mine!"}, "line 5: suffix"),
        ("", {"quantizations": ["int3"]}, "'int3' is not one of"),
        ("", {"base": ""}, "line 1: base"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(home: Path, more: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _plan(home, more, **values)
    assert words in str(refused.value)


def test_paths_begin_at_the_recipe(home: Path) -> None:
    assert _plan(home).data.read_bytes() == (home / "data.jsonl").read_bytes()


def test_other_weights_than_those_of_the_base_are_refused(home: Path) -> None:
    (home / "base.gguf").write_bytes(b"other")
    with pytest.raises(ConfigurationError, match=r"base\.gguf is not what tiny was made of"):
        _plan(home)


def test_a_base_that_does_not_say_what_it_was_made_of_is_refused(home: Path) -> None:
    _change_card(home, source="folder:base")
    with pytest.raises(ConfigurationError, match="does not say which weights it was made of"):
        _plan(home)


def test_a_model_that_is_not_here_is_refused(home: Path) -> None:
    with pytest.raises(UnknownModel, match="'other' is not in"):
        _plan(home, base="other")


def test_a_model_of_another_tenant_does_not_exist(home: Path) -> None:
    _change_card(home, tenant="shop")
    with pytest.raises(UnknownModel, match="tenant bank has no model 'tiny'"):
        _plan(home, tenant="bank")


def test_a_tuned_model_belongs_to_the_tenant_of_its_base_or_of_its_recipe(home: Path) -> None:
    assert _plan(home).tenant == ""
    assert _plan(home, tenant="shop").tenant == "shop"
    _change_card(home, tenant="shop")
    assert _plan(home).tenant == "shop"


@pytest.mark.parametrize("licence", ["CC-BY-NC-ND-4.0", "proprietary"])
def test_a_licence_that_allows_no_derived_work_is_refused(home: Path, licence: str) -> None:
    _change_card(home, licence=licence)
    with pytest.raises(ConfigurationError, match=f"the licence of tiny is {licence}"):
        _plan(home)


def _exported(home: Path, licence: str = "Apache-2.0") -> Path:
    folder = home / "set"
    folder.mkdir()
    sides = {name: write_lines(folder / name, [chat("a", "b")]) for name in ("train.jsonl", "held-out.jsonl")}
    digests = {name: sha256_of(path) for name, path in sides.items()}
    card = {"sha256": digests, "models": {"teacher": {"rows": 2, "licence": licence}}}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_an_exported_data_set_has_both_sides_and_its_licences(home: Path) -> None:
    _exported(home)
    plan = _plan(home, data="set")
    assert plan.held_out == home / "set" / "held-out.jsonl"
    assert plan.licences == {"tiny": "Apache-2.0", "teacher": "Apache-2.0"}


def test_an_exported_data_set_that_was_changed_is_refused(home: Path) -> None:
    write_lines(_exported(home) / "train.jsonl", [chat("a", "c")])
    with pytest.raises(ConfigurationError, match=r"train\.jsonl is not as it was exported"):
        _plan(home, data="set")


def test_the_licence_of_a_teacher_counts(home: Path) -> None:
    _exported(home, "proprietary")
    with pytest.raises(ConfigurationError, match="the licence of teacher is proprietary"):
        _plan(home, data="set")


def test_the_id_follows_the_data_and_the_recipe_and_not_where_they_lie(home: Path) -> None:
    first = _plan(home)
    (home / "data.jsonl").rename(home / "moved.jsonl")
    assert _plan(home, data="moved.jsonl").id == first.id
    assert _plan(home, "[training]\nseed = 1", data="moved.jsonl").id != first.id
    write_lines(home / "moved.jsonl", [chat("a", "c")])
    assert _plan(home, data="moved.jsonl").id != first.id


def test_an_alias_names_base_suffix_and_run_and_is_never_too_long(home: Path) -> None:
    plan = _plan(home, suffix="tickets", quantizations=["int8", "float32"])
    assert [plan.alias(kind) for kind in plan.recipe.quantizations] == [
        f"ft-tiny-tickets-{plan.id}", f"ft-tiny-tickets-{plan.id}-float32",
    ]  # fmt: skip
    long = Plan(
        **{**{name: getattr(plan, name) for name in Plan.__slots__}, "base": replace(plan.base, alias="b" * 64)}
    )
    assert len(long.alias("float32")) == 64
    assert long.alias("float32").endswith(f"-tickets-{long.id}-float32")


def test_a_recipe_that_is_no_toml_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("base = ")
    with pytest.raises(ConfigurationError, match=r"recipe\.toml is no TOML"):
        read_recipe(tmp_path / "recipe.toml")
