"""A verifier that was measured here, and was no better than chance, is not loaded."""

from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.commands.serving import embedded_stack
from headrace_workers.models.verifiers.measured import note, note_probe, refuse_chance
from headrace_workers.models.verifiers.verifier import Relation


def test_one_that_was_no_better_than_chance_is_refused(tmp_path: Path) -> None:
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    note(tmp_path, "qwen", Relation.SUPPORTED, is_chance=True, sentence="AUROC 0.48")
    with pytest.raises(ConfigurationError, match=r"qwen was measured .* better than chance: AUROC 0\.48"):
        refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    note(tmp_path, "qwen", Relation.SUPPORTED, is_chance=False, sentence="AUROC 0.81")
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)


def test_one_may_be_of_use_for_one_relation_alone(tmp_path: Path) -> None:
    note(tmp_path, "qwen", Relation.SAME_QUESTION, is_chance=True, sentence="AUROC 0.48")
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    refuse_chance(tmp_path, "other", Relation.SAME_QUESTION)
    refuse_chance(tmp_path, None, Relation.SAME_QUESTION)
    with pytest.raises(ConfigurationError):
        refuse_chance(tmp_path, "qwen", Relation.SAME_QUESTION)


def test_a_judge_that_failed_its_probe_is_refused_until_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_JUDGE_MODEL", "qwen")
    note(tmp_path, "qwen", Relation.SUPPORTED, is_chance=True, sentence="AUROC 0.48")
    embedded_stack(tmp_path, [])  # it was not probed as a judge
    note_probe(tmp_path, "qwen", "not to be trusted with: order")
    with pytest.raises(ConfigurationError, match=r"qwen, which failed .* order. .* HEADRACE_ACCEPT_UNTRUSTED=true"):
        embedded_stack(tmp_path, [])
    monkeypatch.setenv("HEADRACE_ACCEPT_UNTRUSTED", "true")
    embedded_stack(tmp_path, [])
    monkeypatch.delenv("HEADRACE_ACCEPT_UNTRUSTED")
    note_probe(tmp_path, "qwen", None)
    embedded_stack(tmp_path, [])


def test_a_file_that_is_no_json_is_told(tmp_path: Path) -> None:
    """A worker does not guess what was measured."""
    (tmp_path / "verifiers.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"verifiers\.json cannot be read"):
        refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
