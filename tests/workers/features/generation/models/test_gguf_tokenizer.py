"""The tokenizer out of a GGUF file."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.convert_gguf import build_tokenizer, read_tokenizer, save_tokenizer

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
    """What the rebuilt tokenizer makes of a text."""
    tokens: list[str] = build_tokenizer(read_tokenizer(fields, "test")).encode(text).tokens
    return tokens


def test_merges_and_special_tokens_are_kept() -> None:
    """Control tokens are one token in running text, and user-defined ones too."""
    assert tokens_of(FIELDS, "ab ab<|im_end|><tool>") == ["ab", "Ġab", "<|im_end|>", "<tool>"]


def test_special_tokens_vanish_from_answers_and_defined_ones_stay() -> None:
    """Type 3 is special, type 4 is text."""
    tokenizer = build_tokenizer(read_tokenizer(FIELDS, "test"))
    assert tokenizer.decode(tokenizer.encode("ab<tool><|im_end|>").ids) == "ab<tool>"


def test_the_pre_tokenizer_decides_about_digits() -> None:
    """SmolLM reads digit by digit, GPT-2 does not: the same merges, other tokens."""
    assert tokens_of(FIELDS, "12") == ["1", "2"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "gpt-2"}, "12") == ["12"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "llama-bpe"}, "12") == ["12"]
    assert tokens_of({**FIELDS, "tokenizer.ggml.pre": "qwen2"}, "12") == ["1", "2"]


def test_qwen_reads_letters_and_their_accents_as_one() -> None:
    """Qwen 2 normalizes to NFC, as its makers' tokenizer does; Llama 3 does not."""
    for pre, same in (("qwen2", True), ("llama-bpe", False)):
        fields = {**FIELDS, "tokenizer.ggml.pre": pre}
        assert (tokens_of(fields, "e\u0301") == tokens_of(fields, "\u00e9")) is same


@pytest.mark.parametrize("text", ["Grüße, 北京 🎉", "  a\n\n\tb ", "e\u0301 \u200d"])
def test_any_text_comes_back(text: str) -> None:
    """Byte-level BPE loses nothing."""
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
    """The end that the file names, and control tokens that are ends by their names; text of such a name is none."""
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
