"""GGUF files of small random networks, in any format of weights.

`gguf` cannot write most of these formats, so the blocks are random bytes with a scale that keeps the weights small.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from tokenizers import pre_tokenizers

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS = 256, 512, 2, 4, 2
CONTEXT = 128
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "in", "Ġt", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# Where the float16 factors of a block stand, in bytes, and their sizes.
_FACTORS: dict[str, dict[int, float]] = {
    "Q4_0": {0: 0.01}, "Q5_0": {0: 0.005}, "Q8_0": {0: 0.001},
    "Q4_1": {0: 0.01, 2: -0.07}, "Q5_1": {0: 0.005, 2: -0.07},
    "Q2_K": {80: 0.004, 82: 0.004}, "Q3_K": {108: 0.001}, "Q4_K": {0: 0.0003, 2: 0.002},
    "Q5_K": {0: 0.0002, 2: 0.002}, "Q6_K": {208: 0.00003},
}  # fmt: skip


def write_random_gguf(
    path: Path, architecture: str, kind: str, *, rotary_factors: Sequence[float] = (), tensors_a_part: int = 0
) -> Path:
    """A file of two layers with all matrices in the format `kind`, such as Q4_K.

    With `tensors_a_part` it is split into parts of so many weights each.
    """
    random = np.random.default_rng(5)
    writer = GGUFWriter(str(path), architecture, split_max_tensors=tensors_a_part)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(20_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    if architecture == "qwen3":
        writer.add_key_length(HIDDEN // HEADS)
        writer.add_value_length(HIDDEN // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if architecture == "llama" else "qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * (len(TOKENS) - 3) + [3] * 3)
    writer.add_token_merges(["i n", "Ġ t"])
    writer.add_bos_token_id(len(TOKENS) - 3)
    writer.add_eos_token_id(len(TOKENS) - 1)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}{% endfor %}")
    for name, shape in _shapes(architecture):
        if len(shape) == 1:
            values = random.normal(1.0 if "norm" in name else 0.0, 0.3, shape).astype(np.float32)
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, *_blocks(random, shape, kind))
    if rotary_factors:
        writer.add_tensor("rope_freqs.weight", np.array(rotary_factors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(architecture: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    kv = KV_HEADS * HIDDEN // HEADS
    yield "token_embd.weight", (len(TOKENS), HIDDEN)
    yield "output.weight", (len(TOKENS), HIDDEN)
    yield "output_norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        for part, rows, columns in (
            ("attn_q", HIDDEN, HIDDEN), ("attn_k", kv, HIDDEN), ("attn_v", kv, HIDDEN), ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FFN, HIDDEN), ("ffn_up", FFN, HIDDEN), ("ffn_down", HIDDEN, FFN),
        ):  # fmt: skip
            yield f"blk.{layer}.{part}.weight", (rows, columns)
            if architecture == "qwen2" and part in ("attn_q", "attn_k", "attn_v"):
                yield f"blk.{layer}.{part}.bias", (rows,)
        if architecture == "qwen3":
            yield f"blk.{layer}.attn_q_norm.weight", (HIDDEN // HEADS,)
            yield f"blk.{layer}.attn_k_norm.weight", (HIDDEN // HEADS,)
        yield f"blk.{layer}.attn_norm.weight", (HIDDEN,)
        yield f"blk.{layer}.ffn_norm.weight", (HIDDEN,)


def _blocks(random: np.random.Generator, shape: tuple[int, ...], kind: str) -> tuple[Any, ...]:
    """Return the arguments of `add_tensor` behind the name."""
    if kind in ("F32", "F16"):
        return (random.normal(0.0, 0.06, shape).astype(np.float32 if kind == "F32" else np.float16),)
    quantization = GGMLQuantizationType[kind]
    elements, size = GGML_QUANT_SIZES[quantization]
    rows, blocks = shape[0], shape[1] // elements
    content = random.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for at, factor in _FACTORS[kind].items():
        factors = (factor * random.uniform(0.5, 1.5, (rows, blocks))).astype(np.float16)
        content[:, :, at : at + 2] = factors[:, :, None].view(np.uint8)
    return content.reshape(rows, blocks * size), None, quantization
