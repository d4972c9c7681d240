"""From GGUF to CTranslate2, without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.convert_gguf import convert_gguf


def write_gguf(path: Path, *, architecture: str = "llama", without: str = "", extra: tuple[str, ...] = ()) -> Path:
    """A one-layer Llama of zeros, with four tokens; `extra` names weights that it should not have."""
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", "<|end|>"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(3)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    attention = {f"blk.0.attn_{part}.weight": (8, 8) for part in ("q", "k", "v", "output")}
    ffn = {"blk.0.ffn_gate.weight": (16, 8), "blk.0.ffn_up.weight": (16, 8), "blk.0.ffn_down.weight": (8, 16)}
    norms = dict.fromkeys(("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"), (8,))
    shapes: dict[str, Any] = {"token_embd.weight": (4, 8), **attention, **ffn, **norms}
    for name, shape in (shapes | dict.fromkeys(extra, (8,))).items():
        if name != without:
            writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_a_small_llama_becomes_a_folder_that_loads(tmp_path: Path, quantization: str) -> None:
    """All files that serving reads are written, and the engine takes them."""
    import ctranslate2

    folder = tmp_path / "out"
    folder.mkdir()
    facts = convert_gguf(write_gguf(tmp_path / "m.gguf"), folder, quantization)
    assert (facts.licence, facts.context_length) == ("unknown", 64)
    written = {path.name for path in folder.iterdir()}
    assert written == {"model.bin", "config.json", "vocabulary.json", "tokenizer.json", "tokenizer_config.json",
                       "generation_config.json"}  # fmt: skip
    ctranslate2.Generator(str(folder)).generate_batch([["a"]], max_length=1)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"architecture": "gemma2"}, "'gemma2'; only llama, qwen2, qwen3 are read"),
        ({"architecture": "qwen2"}, "lacks 3 weights, the first is blk.0.attn_k.bias"),
        ({"without": "blk.0.ffn_up.weight"}, "lacks 1 weights, the first is blk.0.ffn_up.weight"),
        ({"extra": ("blk.0.attn_q.bias",)}, "the first is blk.0.attn_q.bias"),
    ],
)
def test_a_network_of_another_shape_is_refused_by_name(tmp_path: Path, damage: dict[str, Any], says: str) -> None:
    """Nothing is dropped in silence: the message names what stands in the way."""
    with pytest.raises(ConfigurationError, match=says):
        convert_gguf(write_gguf(tmp_path / "m.gguf", **damage), tmp_path, "float32")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    """Any other file gives a clear error."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"not a model" * 10)
    with pytest.raises(ConfigurationError, match="no readable GGUF"):
        convert_gguf(path, tmp_path, "int8")


def test_neither_torch_nor_transformers_is_imported(tmp_path: Path) -> None:
    """The point of this route: where torch is not installed, nothing asks for it."""
    path = write_gguf(tmp_path / "m.gguf")
    code = (
        "import sys, pathlib\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None  # as if not installed\n"
        "from headrace_workers.features.generation.models.convert_gguf import convert_gguf\n"
        "convert_gguf(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 'int8')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "model.bin").is_file()
