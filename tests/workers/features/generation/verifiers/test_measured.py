"""A verifier that was measured here, and was no better than chance, is not loaded."""

from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ports import Relation
from headrace_workers.features.generation.verifiers.measured import note, refuse_chance


def test_one_that_was_no_better_than_chance_is_refused(tmp_path: Path) -> None:
    """With the figure; a later measurement replaces it. Nothing is refused that was not measured."""
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    note(tmp_path, "qwen", Relation.SUPPORTED, is_chance=True, sentence="AUROC 0.48")
    with pytest.raises(ConfigurationError, match=r"qwen was measured .* better than chance: AUROC 0\.48"):
        refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    note(tmp_path, "qwen", Relation.SUPPORTED, is_chance=False, sentence="AUROC 0.81")
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)


def test_one_may_be_of_use_for_one_relation_alone(tmp_path: Path) -> None:
    """A model that tells no questions apart may tell claims apart, and no other model is refused for it."""
    note(tmp_path, "qwen", Relation.SAME_QUESTION, is_chance=True, sentence="AUROC 0.48")
    refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
    refuse_chance(tmp_path, "other", Relation.SAME_QUESTION)
    refuse_chance(tmp_path, None, Relation.SAME_QUESTION)
    with pytest.raises(ConfigurationError):
        refuse_chance(tmp_path, "qwen", Relation.SAME_QUESTION)


def test_a_file_that_is_no_json_is_told(tmp_path: Path) -> None:
    """A worker does not guess what was measured."""
    (tmp_path / "verifiers.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"verifiers\.json cannot be read"):
        refuse_chance(tmp_path, "qwen", Relation.SUPPORTED)
