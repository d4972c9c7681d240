from pathlib import Path

from headrace_workers.models.registry import load_card, sha256_of
from headrace_workers.testing import make_tiny_model


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    first = make_tiny_model(tmp_path / "a")
    again = make_tiny_model(tmp_path / "b", "other")
    assert first == tmp_path / "a" / "models" / "tiny"
    assert sha256_of(first / "model.bin") == sha256_of(again / "model.bin") == load_card(tmp_path / "a", "tiny").sha256


def test_it_is_tiny(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    assert load_card(tmp_path, "tiny").size_bytes < 1_000_000
