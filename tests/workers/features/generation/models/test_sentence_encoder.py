"""A sentence-transformers folder becomes an embedder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.sentence_folder import MAX_TOKENS, POSITIONS, write_sentence_folder

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.convert import convert
from headrace_workers.features.generation.models.registry import Registry, load_card

Change = Callable[[dict[str, Any]], object]


def lengths(sentences: int | None, tokenizer: float | None) -> Change:
    """The folder says here and there, or nowhere, how much the model reads."""

    def change(files: dict[str, Any]) -> None:
        files["sentence_bert_config.json"] = {"max_seq_length": sentences}
        files["tokenizer_config.json"] = {"model_max_length": tokenizer}

    return change


def half_as_long(files: dict[str, Any]) -> None:
    """A bias of the right size in bytes, and of another type."""
    name = "encoder.layer.1.output.dense.bias"
    files["weights"][name] = files["weights"][name].view(np.float16)


def few_embeddings(files: dict[str, Any]) -> None:
    """Fewer than the tokenizer has tokens."""
    name = "embeddings.word_embeddings.weight"
    files["weights"][name] = files["weights"][name][:20]
    files["config.json"]["vocab_size"] = 20


def strange_weight(files: dict[str, Any]) -> None:
    """One that BERT does not have."""
    files["weights"]["encoder.layer.2.x"] = np.ones(1, np.float32)


@pytest.mark.integration
def test_it_needs_no_torch_and_makes_an_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the folder says of itself, and nothing that a job may name."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    card = convert(str(write_sentence_folder(tmp_path / "mine")), "mine", tmp_path)
    assert (card.kind, card.engine, card.quantization, card.licence) == ("embedder", "ctranslate2", "int8", "mit")
    assert (card.source, card.context_length) == ("folder:mine", MAX_TOKENS)
    assert load_card(tmp_path, "mine") == card
    assert "mine" not in Registry(tmp_path)


@pytest.mark.integration
def test_the_same_folder_gives_the_same_weights(tmp_path: Path) -> None:
    """Two machines that convert it have one embedder, and may share vectors."""
    folder = str(write_sentence_folder(tmp_path / "mine"))
    assert convert(folder, "one", tmp_path).sha256 == convert(folder, "two", tmp_path).sha256


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lengths(None, None), POSITIONS),
        (lengths(512, None), POSITIONS),
        (lengths(None, 30), 30),
        (lengths(None, 1e30), POSITIONS),
        (lambda files: files.update({"1_Pooling/config.json": {"pooling_mode": "mean"}}), MAX_TOKENS),
        (lambda files: files["modules.json"].pop(), MAX_TOKENS),
        (lambda files: files["config.json"].update(position_embedding_type="absolute"), MAX_TOKENS),
        (lambda files: files["weights"].pop("pooler.dense.bias"), MAX_TOKENS),
        (lambda files: files["weights"].update({"embeddings.position_ids": np.arange(POSITIONS)}), MAX_TOKENS),
    ],
    ids=range(9),
)  # fmt: skip
def test_folders_of_all_ages_are_read(tmp_path: Path, change: Change, expected: int) -> None:
    """Newer ones say some things elsewhere; the network's places bound what is read."""
    card = convert(str(write_sentence_folder(tmp_path / "mine", change)), "mine", tmp_path)
    assert card.context_length == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda files: files["config.json"].update(model_type="roberta"), "model_type is 'roberta'"),
        (lambda files: files["config.json"].update(hidden_act="relu"), "hidden_act is 'relu'"),
        (lambda files: files["config.json"].update(position_embedding_type="relative_key"), "'relative_key'"),
        (lambda files: files["config.json"].pop("layer_norm_eps"), "lacks a number of the network: 'layer_norm_eps'"),
        (lambda files: files["modules.json"].append({"type": "a.Dense"}), "Transformer, Pooling, Normalize, Dense"),
        (lambda files: files.update({"modules.json": {}}), "holds dict, not list"),
        (lambda files: files.update({"1_Pooling/config.json": {"pooling_mode": "cls"}}), "pools by 'cls'"),
        (lambda files: files["1_Pooling/config.json"].update(pooling_mode_max_tokens=True), "'mean_tokens', 'max_t"),
        (lambda files: files["sentence_bert_config.json"].update(do_lower_case=True), "lower case"),
        (lambda files: files["weights"].pop("encoder.layer.1.output.dense.bias"), "lacks 1 weights"),
        (strange_weight, r"the first is encoder\.layer\.2\.x"),
        (lambda files: files["config.json"].update(intermediate_size=63), r"\(64, 32\) in F32; it must be \(63, 32\)"),
        (half_as_long, r"has the shape \(64,\) in F16; it must be \(32,\)"),
        (few_embeddings, "tokens, but the model only 20 embeddings"),
    ],
    ids=range(14),
)  # fmt: skip
def test_what_would_give_other_vectors_is_refused(tmp_path: Path, change: Change, says: str) -> None:
    """By name, and no model is left behind."""
    folder = write_sentence_folder(tmp_path / "mine", change)
    with pytest.raises(ConfigurationError, match=says):
        convert(str(folder), "mine", tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
def test_a_folder_that_lacks_a_file_is_told(tmp_path: Path, name: str) -> None:
    """With the file's path."""
    folder = write_sentence_folder(tmp_path / "mine")
    (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name}"):
        convert(str(folder), "mine", tmp_path)
