import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.sentence_folder import MAX_TOKENS, POSITIONS, write_safetensors, write_sentence_folder

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert import convert
from headrace_workers.models.registry import Registry, load_card
from headrace_workers.models.sentence_encoder import read_header, read_tensor

NUMBERS = np.array([[1.5, -2.0, 0.25], [3.0, 0.0, -0.5]], dtype=np.float32)


def test_each_type_reads_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    upper_half = (NUMBERS.view(np.uint32) >> 16).astype(np.uint16)
    tensors = {"full": NUMBERS, "half": NUMBERS.astype(np.float16), "brain": upper_half}
    write_safetensors(path, tensors, {"brain": "BF16"})
    header = read_header(path)
    assert list(header) == ["full", "half", "brain"]
    for stored in header.values():
        tensor = read_tensor(path, stored)
        assert (tensor.dtype, tensor.flags.writeable) == (np.float32, True)
        np.testing.assert_array_equal(tensor, NUMBERS)


def test_a_scalar_and_an_empty_tensor_are_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"one": np.array(2.0, dtype=np.float32), "none": np.empty((0, 4), dtype=np.float32)})
    shapes = {name: read_tensor(path, stored).shape for name, stored in read_header(path).items()}
    assert shapes == {"one": (), "none": (0, 4)}


def file_of(header: object, body: bytes = b"\0" * 8) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its header would have 0 bytes"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "the file has 10"),
        (file_of(b"{{"), "no readable safetensors file"),
        (file_of([]), "no readable safetensors file"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}), "data_offsets"),
        (file_of({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}), "does not fill its 8 bytes"),
        (file_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}), "a lies outside the file"),
        (file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}), "a lies outside the file"),
        (file_of({"a": {"dtype": "I64", "shape": [1], "data_offsets": [8, 0]}}), "a lies outside the file"),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        read_header(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.safetensors is no readable"):
        read_header(tmp_path / "model.safetensors")


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
    name = "embeddings.word_embeddings.weight"
    files["weights"][name] = files["weights"][name][:20]
    files["config.json"]["vocab_size"] = 20


def strange_weight(files: dict[str, Any]) -> None:
    files["weights"]["encoder.layer.2.x"] = np.ones(1, np.float32)


@pytest.mark.integration
def test_it_needs_no_torch_and_makes_an_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    card = convert(str(write_sentence_folder(tmp_path / "mine")), "mine", tmp_path)
    assert (card.kind, card.engine, card.quantization, card.licence) == ("embedder", "ctranslate2", "int8", "mit")
    source, _, digest = card.source.partition("#sha256=")
    assert (source, len(digest), card.context_length) == ("folder:mine", 64, MAX_TOKENS)
    assert load_card(tmp_path, "mine") == card
    assert "mine" not in Registry(tmp_path)


@pytest.mark.integration
def test_the_same_folder_gives_the_same_weights(tmp_path: Path) -> None:
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
    folder = write_sentence_folder(tmp_path / "mine", change)
    with pytest.raises(ConfigurationError, match=says):
        convert(str(folder), "mine", tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
def test_a_folder_that_lacks_a_file_is_told(tmp_path: Path, name: str) -> None:
    folder = write_sentence_folder(tmp_path / "mine")
    (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name}"):
        convert(str(folder), "mine", tmp_path)
