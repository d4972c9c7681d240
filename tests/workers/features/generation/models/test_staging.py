"""A model appears whole or not at all."""

from pathlib import Path

import pytest

from headrace_workers.features.generation.models.registry import staged_model


def test_a_draft_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    """The new folder replaces the old one whole."""
    for text in ("first", "second"):
        with staged_model(tmp_path, "m") as draft:
            (draft / text).write_text(text)
    assert [path.name for path in (tmp_path / "models" / "m").iterdir()] == ["second"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """A conversion that fails half-way changes nothing, and leaves no litter."""
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
