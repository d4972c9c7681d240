"""A Hugging Face tokenizer rebuilt from what a GGUF file says: vocabulary, merges, token types, pre-tokenizer.

Only byte-level BPE (`tokenizer.ggml.model = "gpt2"`) is rebuilt; SentencePiece vocabularies are refused.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# llama.cpp's numbers for `tokenizer.ggml.token_type`.
_CONTROL, _USER_DEFINED = 3, 4

# Control tokens that end an answer whatever else the file names as its end: Qwen 2 has two of them, Llama 3 three.
_ENDS: Final = frozenset({"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"})

# The split that Llama 3 makes before byte-level BPE, and Qwen 2, which differs in numbers alone.
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTokenizer:
    """The entries under `tokenizer.` of a GGUF file, checked."""

    tokens: list[str]
    merges: list[str]
    types: list[int]
    pre: str
    bos: str
    eos: str
    unk: str
    chat_template: str | None


def unreadable_gguf(problem: str) -> ConfigurationError:
    """Return the error for a GGUF file that cannot be converted, which says what to convert instead."""
    return ConfigurationError(f"{problem}: convert the model's Transformers folder instead")


def read_tokenizer(fields: Mapping[str, Any], source: str) -> GgufTokenizer:
    """Return the tokenizer's entries out of all fields of the file; ConfigurationError for a kind that we cannot
    rebuild.
    """
    kind = fields.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise unreadable_gguf(
            f"{source} has a tokenizer of kind {kind!r}; only byte-level BPE ('gpt2') can be rebuilt from a GGUF"
        )
    pre = fields.get("tokenizer.ggml.pre", "gpt-2")
    if pre not in _PRE_TOKENIZERS:
        raise unreadable_gguf(
            f"{source} splits words by the rule {pre!r}; known are {', '.join(sorted(_PRE_TOKENIZERS))}"
        )
    tokens = fields["tokenizer.ggml.tokens"]

    def special(name: str, fallback: str) -> str:
        index = fields.get(f"tokenizer.ggml.{name}_token_id")
        return fallback if index is None else str(tokens[index])

    eos = special("eos", "")
    if not eos:
        raise ConfigurationError(f"{source} names no end token (tokenizer.ggml.eos_token_id): answers would never end")
    return GgufTokenizer(
        tokens=tokens,
        merges=fields["tokenizer.ggml.merges"],
        types=fields.get("tokenizer.ggml.token_type") or [1] * len(tokens),
        pre=pre,
        bos=special("bos", eos),
        eos=eos,
        unk=special("unknown", eos),
        chat_template=fields.get("tokenizer.chat_template"),
    )


def build_tokenizer(described: GgufTokenizer) -> "Tokenizer":
    """Return the `tokenizers.Tokenizer` that gives the ids which the model was trained on."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    ids = {token: index for index, token in enumerate(described.tokens)}
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in described.merges)]
    # Llama 3 keeps a word whole that is a token, whatever the merges say.
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=described.pre == "llama-bpe"))
    if described.pre == "qwen2":  # as its makers do; llama.cpp does not
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[described.pre]()
    tokenizer.decoder = decoders.ByteLevel()
    pairs = list(zip(described.tokens, described.types, strict=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in pairs if k == _CONTROL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t, k in pairs if k == _USER_DEFINED])
    return tokenizer


def save_tokenizer(described: GgufTokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into the folder, and `generation_config.json` with all ends of
    an answer.
    """
    build_tokenizer(described).save(str(folder / "tokenizer.json"), pretty=False)
    ends = [
        index
        for index, (token, kind) in enumerate(zip(described.tokens, described.types, strict=True))
        if token == described.eos or (kind == _CONTROL and token in _ENDS)
    ]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}), encoding="utf-8")
    write_tokenizer_config(
        folder, bos=described.bos, eos=described.eos, unk=described.unk, chat_template=described.chat_template
    )


def write_tokenizer_config(folder: Path, *, bos: str, eos: str, unk: str, chat_template: str | None) -> None:
    """Write the few entries of `tokenizer_config.json` that serving reads, under the names that Transformers gives."""
    config = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "chat_template": chat_template}
    present = {name: value for name, value in config.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(present, indent=2, ensure_ascii=False), encoding="utf-8")


def _gpt2() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _split(numbers: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT.format(numbers=numbers)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# By llama.cpp's names for them (`tokenizer.ggml.pre`).
_PRE_TOKENIZERS: Final[Mapping[str, Callable[[], Any]]] = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": partial(_split, r"\p{N}{1,3}"),
    "qwen2": partial(_split, r"\p{N}"),
}
