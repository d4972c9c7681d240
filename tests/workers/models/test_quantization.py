from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.models.model_file import read_variables
from tests.workers.models.test_convert import need_torch
from tests.workers.models.test_convert_gguf import write_gguf
from tests.workers.sentence_folder import write_sentence_folder

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert import convert
from headrace_workers.models.quantization import check_quantization, pair_safe
from headrace_workers.models.registry import load_card
from headrace_workers.testing import make_tiny_model


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="float32"):
        check_quantization("int4")


def test_a_format_that_this_machine_lacks_is_refused_with_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    monkeypatch.setattr("ctranslate2.get_supported_compute_types", lambda device: {"int8", "float32"})
    check_quantization("int8")
    with pytest.raises(ConfigurationError, match="possible here: cpu: float32, int8"):
        check_quantization("float16")
    check_quantization("float16", for_elsewhere=True)


SIXTEEN_BITS = np.iinfo(np.int16)
UNSIGNED = np.iinfo(np.uint8).max  # the largest activation


def overflows(integers: np.ndarray) -> bool:
    """Return True if two neighbours can overflow 16 bits, times any two activations."""
    wide = integers.reshape(len(integers), -1).astype(np.int64)
    first, second = wide[:, 0 : wide.shape[1] // 2 * 2 : 2], wide[:, 1::2]
    highest = UNSIGNED * (np.maximum(first, 0) + np.maximum(second, 0))
    lowest = UNSIGNED * (np.minimum(first, 0) + np.minimum(second, 0))
    return bool((highest > SIXTEEN_BITS.max).any() or (lowest < SIXTEEN_BITS.min).any())


def rows(width: int) -> np.ndarray:
    """Return rows of many kinds: random, of one sign, with an outlier, tiny, huge, and of zeros."""
    random = np.random.default_rng(7)
    usual = random.normal(size=(5_000, width))  # more than are worked on at a time
    outlier = random.normal(size=(20, width))
    outlier[:, 0] = 50
    kinds = [usual, np.ones((1, width)), -np.abs(usual[:50]), outlier, usual[:5] * 1e-43, usual[:5] * 1e30]
    return np.concatenate([*kinds, np.zeros((2, width))]).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 63, 64])
def test_no_pair_of_weights_can_overflow(width: int) -> None:
    integers, scale = pair_safe(rows(width))
    assert (integers.dtype, scale.dtype, np.isfinite(scale).all()) == (np.int8, np.float32, True)
    assert not overflows(integers)
    assert integers.min() >= -127


@pytest.mark.parametrize("width", [1, 2, 63, 64])
def test_weights_are_rounded_and_use_all_the_room(width: int) -> None:
    weights = rows(width)
    integers, scale = pair_safe(weights)
    assert np.abs(weights.astype(np.float64) * scale[:, None] - integers).max() <= 0.5 + 1e-4
    wide = np.pad(integers, ((0, 0), (0, width % 2))).astype(np.int64)
    pair = np.maximum(
        np.maximum(wide[:, 0::2], 0) + np.maximum(wide[:, 1::2], 0),
        -np.minimum(wide[:, 0::2], 0) - np.minimum(wide[:, 1::2], 0),
    ).max(axis=1)
    fair = np.abs(weights).max(axis=1) > 1e-30  # the scale of smaller rows cannot be stored
    assert ((pair >= 126) | (np.abs(wide).max(axis=1) == 127))[fair].all()


def from_gguf(folder: Path) -> str:
    import gguf

    path = write_gguf(folder / "m.gguf")
    reader = gguf.GGUFReader(str(path), "r+")
    random = np.random.default_rng(3)
    for tensor in reader.tensors:
        tensor.data[:] = random.normal(size=tensor.data.shape)
    reader.data.flush()
    return str(path)


def from_sentences(folder: Path) -> str:
    return str(write_sentence_folder(folder / "sentences"))


def from_transformers(folder: Path) -> str:
    need_torch()
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = make_tiny_model(folder / "tiny")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(made / "tokenizer.json"), eos_token="<|im_end|>")
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    return str(folder / "llama")


@pytest.mark.integration
@pytest.mark.parametrize("source", [from_gguf, from_sentences, pytest.param(from_transformers, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("quantization", "beside"), [("int8", "float32"), ("int8_float16", "float16")])
def test_every_conversion_writes_weights_that_cannot_overflow(
    tmp_path: Path, source: Callable[[Path], str], quantization: str, beside: str
) -> None:
    convert(source(tmp_path), "mine", tmp_path, quantization, for_elsewhere=True)
    card = load_card(tmp_path, "mine")
    assert (card.weight_range, card.number_format) == ("pairs", f"{quantization}_pairs")
    variables = read_variables(tmp_path / "models" / "mine" / "model.bin")
    weights = {name: value for name, value in variables.items() if value.dtype == np.int8 and value.ndim > 1}
    assert weights.keys() == {name.removesuffix("_scale") for name in variables if name.endswith("weight_scale")}
    assert len(weights) >= 5
    assert not any(overflows(value) for value in weights.values())
    assert max(np.abs(value.astype(int)).max() for value in weights.values()) > 64
    norms = {name: value.dtype.name for name, value in variables.items() if name.endswith(("gamma", "beta"))}
    assert set(norms.values()) == {beside}


@pytest.mark.integration
def test_other_formats_have_no_bound(tmp_path: Path) -> None:
    convert(from_sentences(tmp_path), "mine", tmp_path, "float32")
    card = load_card(tmp_path, "mine")
    found: dict[str, Any] = read_variables(tmp_path / "models" / "mine" / "model.bin")
    assert (card.weight_range, card.number_format) == ("", "float32")
    assert all(value.dtype == np.float32 for value in found.values() if value.ndim > 1)
