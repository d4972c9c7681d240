from pathlib import Path

import numpy as np
import pytest
from tests.workers.models.model_file import read_variables
from tests.workers.models.random_gguf import write_random_gguf
from tests.workers.models.test_convert import logits_of

from headrace_workers.models.convert import convert
from headrace_workers.models.llama_spec import LlamaShape, Vocabulary, save_llama
from headrace_workers.models.quantization import pair_safe

SHAPE = LlamaShape(layers=2, heads=2, kv_heads=1, head_dim=4, rope_base=10_000.0, rms_epsilon=1e-5, qkv_biases=True)
WORDS = Vocabulary(tokens=["a", "b", "c", "d"], bos="a", eos="d", unk="d")
SHAPES = {"token_embd": (4, 8), "attn_q": (8, 8), "attn_k": (4, 8), "attn_v": (4, 8), "attn_output": (8, 8),
          "ffn_gate": (16, 8), "ffn_up": (16, 8), "ffn_down": (8, 16)}  # fmt: skip


def weights(name: str) -> np.ndarray:
    part = name.split(".")[-2]
    shape = SHAPES.get(part, (8,))
    if name.endswith("bias"):
        shape = shape[:1]
    return np.random.default_rng(len(part)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("beside", ["int8_float16", "int8_float32"])
def test_what_is_not_multiplied_has_the_format_beside_int8(beside: str, tmp_path: Path) -> None:
    save_llama(tmp_path, SHAPE, weights, WORDS, beside)
    variables = read_variables(tmp_path / "model.bin")
    kinds = {name: str(value.dtype) for name, value in variables.items()}
    assert {kinds[name] for name in kinds if name.endswith(("gamma", "bias"))} == {beside.removeprefix("int8_")}
    assert {kinds[name] for name in kinds if name.endswith("weight_scale")} == {"float32"}
    assert {kinds[name] for name in kinds if name.endswith("weight")} == {"int8"}


def test_layers_with_equal_scales_keep_weights_of_their_own(tmp_path: Path) -> None:
    save_llama(tmp_path, SHAPE, weights, WORDS, "int8")
    variables = read_variables(tmp_path / "model.bin")
    for layer in range(SHAPE.layers):
        integers, scale = pair_safe(weights(f"blk.{layer}.ffn_down.weight"))
        prefix = f"decoder/layer_{layer}/ffn/linear_1/weight"
        np.testing.assert_array_equal(variables[prefix], integers)
        np.testing.assert_array_equal(variables[f"{prefix}_scale"], scale)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_that_are_the_output_layer_too_are_written_once(tied: bool, tmp_path: Path) -> None:
    import ctranslate2

    shape = LlamaShape(layers=1, heads=2, kv_heads=1, head_dim=4, rope_base=1e4, rms_epsilon=1e-5, tied_embeddings=tied)
    save_llama(tmp_path, shape, lambda name: weights(name.replace("output.weight", "token_embd.weight")
                                                     if name == "output.weight" else name), WORDS, "int8")  # fmt: skip
    assert "decoder/projection/weight" not in read_variables(tmp_path / "model.bin")
    ctranslate2.Generator(str(tmp_path)).generate_batch([["a"]], max_length=1)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_int8_says_about_what_float32_says(architecture: str, tmp_path: Path) -> None:
    path = write_random_gguf(tmp_path / "m.gguf", architecture, "Q8_0")
    convert(str(path), "small", tmp_path, "int8")
    convert(str(path), "exact", tmp_path, "float32")
    for one, other in zip(
        logits_of(tmp_path, "small", ["in the"]), logits_of(tmp_path, "exact", ["in the"]), strict=True
    ):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
