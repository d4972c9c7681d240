from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.models.embedders.ctranslate2_embedder import CTranslate2Embedder
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.testing import HashEmbedder, make_echo_model, make_hash_embedder

PULL = "headrace models pull all-minilm-l6-v2"


def test_the_card_chooses_the_embedder(embedder_home: Path, tmp_path: Path) -> None:
    make_hash_embedder(tmp_path, "words")
    words = load_embedder(tmp_path, "words")
    assert isinstance(words, HashEmbedder)
    assert words.id.startswith("words/none/")
    tiny = load_embedder(embedder_home, "tiny-bert", inter_threads=2)
    assert isinstance(tiny, CTranslate2Embedder)
    assert tiny.id.startswith("tiny-bert/int8_pairs/")


def test_an_unknown_name_is_told_with_a_way(embedder_home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownModel, match=f"no embedder is called 'huge'; here are: tiny-bert, tiny-bert-float.*{PULL}"
    ):
        load_embedder(embedder_home, "huge")
    with pytest.raises(UnknownModel, match=f"here are: none.*{PULL}"):
        load_embedder(tmp_path, "all-minilm-l6-v2")


def test_a_generator_makes_no_vectors(tmp_path: Path) -> None:
    make_echo_model(tmp_path)
    make_hash_embedder(tmp_path)
    with pytest.raises(ConfigurationError, match=f"echo is a generator.*here are: hash.*{PULL}"):
        load_embedder(tmp_path, "echo")


def test_without_the_extra_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'headrace\[sentence-transformers\]'"):
        load_embedder(tmp_path, "sentence-transformers:owner/name")
