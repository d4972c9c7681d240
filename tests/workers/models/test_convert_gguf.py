import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert_gguf import (
    build_tokenizer,
    convert_gguf,
    read_tokenizer,
    save_tokenizer,
)

# Byte-level letters: "Ġ" stands for the space.
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "ab", "Ġab", "<|im_end|>", "<tool>"]
FIELDS: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": ["1 2", "a b", "Ġ ab"],
    "tokenizer.ggml.token_type": [1] * (len(TOKENS) - 2) + [3, 4],
    "tokenizer.ggml.eos_token_id": len(TOKENS) - 2,
}


def tokens_of(fields: dict[str, Any], text: str) -> list[str]:
    tokens: list[str] = build_tokenizer(read_tokenizer(fields, "test")).encode(text).tokens
    return tokens


def test_merges_and_special_tokens_are_kept() -> None:
    assert tokens_of(FIELDS, "ab ab<|im_end|><tool>") == ["ab", "Ġab", "<|im_end|>", "<tool>"]


def test_special_tokens_vanish_from_answers_and_defined_ones_stay() -> None:
    tokenizer = build_tokenizer(read_tokenizer(FIELDS, "test"))
    assert tokenizer.decode(tokenizer.encode("ab<tool><|im_end|>").ids) == "ab<tool>"


def test_the_pre_tokenizer_decides_about_digits() -> None:
    assert tokens_of(FIELDS, "12") == ["1", "2"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "gpt-2"}, "12") == ["12"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "llama-bpe"}, "12") == ["12"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "qwen2"}, "12") == ["1", "2"]


def test_qwen_reads_letters_and_their_accents_as_one() -> None:
    for pre, same in (("qwen2", True), ("llama-bpe", False)):
        fields = {**FIELDS, "tokenizer.ggml.pre": pre}
        assert (tokens_of(fields, "e\u0301") == tokens_of(fields, "\u00e9")) is same


@pytest.mark.parametrize("text", ["Grüße, 北京 🎉", "  a\n\n\tb ", "e\u0301 \u200d"])
def test_any_text_comes_back(text: str) -> None:
    tokenizer = build_tokenizer(read_tokenizer(FIELDS, "test"))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokenizer.ggml.model": "llama"}, "only byte-level BPE"),
        ({"tokenizer.ggml.pre": "deepseek-coder"}, "known are gpt-2, llama-bpe, qwen2, smollm"),
        ({"tokenizer.ggml.eos_token_id": None}, "names no end token"),
    ],
)
def test_a_tokenizer_that_cannot_be_rebuilt_is_refused(change: dict[str, Any], says: str) -> None:
    """A guess would give the model tokens that it was not trained on."""
    with pytest.raises(ConfigurationError, match=says):
        read_tokenizer({**FIELDS, **change}, "test.gguf")


def test_an_answer_ends_at_every_token_that_ends_one(tmp_path: Path) -> None:
    tokens = [*TOKENS, "<|endoftext|>", "<|eot_id|>"]
    fields = {**FIELDS, "tokenizer.ggml.tokens": tokens}
    fields["tokenizer.ggml.token_type"] = [*FIELDS["tokenizer.ggml.token_type"], 3, 1]
    save_tokenizer(read_tokenizer(fields, "test"), tmp_path)
    ends = json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"]
    assert [tokens[index] for index in ends] == ["<|im_end|>", "<|endoftext|>"]


def test_smollm2_is_read_as_llama_cpp_reads_it(smollm2_home: Path) -> None:
    """The ids that llama.cpp 0.3.36 gives for the same file (recorded once)."""
    path = smollm2_home / "models" / "smollm2-135m-instruct" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    text = "<|im_start|>user\nIt's 2024: Grüße 🎉<|im_end|>\n"
    assert tokenizer.encode(text, add_special_tokens=False).ids == RECORDED
    assert tokenizer.decode(RECORDED, skip_special_tokens=False) == text


RECORDED = [1, 4093, 198, 1589, 506, 216, 34, 32, 34, 36, 42, 9171, 7170, 34878, 85, 15107, 232, 227, 2, 198]


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
    with pytest.raises(ConfigurationError, match=says):
        convert_gguf(write_gguf(tmp_path / "m.gguf", **damage), tmp_path, "float32")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"not a model" * 10)
    with pytest.raises(ConfigurationError, match="no readable GGUF"):
        convert_gguf(path, tmp_path, "int8")
