"""A GGUF file as a CTranslate2 folder, without torch: 135M weights take five seconds.

It reads the architectures `llama`, `qwen2` and `qwen3`, in every format of weights that GGUF has. If the file holds
more than these networks have, such as experts, it is refused by name: nothing is dropped. The tokenizer is rebuilt from
what the file says of it: only byte-level BPE (`tokenizer.ggml.model = "gpt2"`); SentencePiece vocabularies are refused.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.llama_spec import (
    LlamaShape,
    RotaryScaling,
    Vocabulary,
    save_llama,
    tensor_names,
)

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

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_ROTARY_FACTORS: Final = "rope_freqs.weight"  # how many times slower each rotation is, as of Llama 3.1


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


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """Facts about a GGUF file that go into its model card."""

    licence: str
    context_length: int


@dataclass(frozen=True, slots=True)
class _Architecture:
    """The differences between architectures of Llama's shape.

    llama.cpp reorders the rows of q and k of `llama` so that it turns neighbours, and keeps the order of the others,
    where it turns the two halves of a head.
    """

    rotary_interleave: bool = False
    qkv_biases: bool = False
    qk_norms: bool = False


_ARCHITECTURES: Final = {
    "llama": _Architecture(rotary_interleave=True),
    "qwen2": _Architecture(qkv_biases=True),
    "qwen3": _Architecture(qk_norms=True),
}


def convert_gguf(
    path: Path, folder: Path, quantization: str, progress: Callable[[float], None] = lambda done: None
) -> GgufFacts:
    """Write the network and its tokenizer into the folder. Raise ConfigurationError, which names the obstacle.

    `progress` is called with how much of the network is done, from 0 to 1.
    """
    from gguf.quants import dequantize

    readers = [_open(part) for part in gguf_parts(path)]
    fields = {name: field.contents() for name, field in readers[0].fields.items()}
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    factors = tensors.pop(_ROTARY_FACTORS, None)
    shape = _read_shape(
        fields,
        tied="output.weight" not in tensors,
        rotary_factors=None if factors is None else factors.data.tolist(),
        source=path.name,
    )
    _check_tensors(frozenset(tensors), shape, path.name)
    tokenizer = read_tokenizer(fields, path.name)
    rows = int(tensors["token_embd.weight"].shape[1])  # GGUF lists the fastest dimension first
    if len(tokenizer.tokens) > rows:
        raise ConfigurationError(f"{path.name} has {len(tokenizer.tokens)} tokens but only {rows} embeddings")
    padding = [f"<extra_id_{index}>" for index in range(rows - len(tokenizer.tokens))]
    vocabulary = Vocabulary(
        tokens=[*tokenizer.tokens, *padding], bos=tokenizer.bos, eos=tokenizer.eos, unk=tokenizer.unk
    )

    def tensor(name: str) -> Any:
        stored = tensors[name]
        weights = dequantize(stored.data, stored.tensor_type)
        # Weights that the file holds in float32 are a read-only view of it, and quantizing works in place.
        return weights if weights.flags.writeable else weights.copy()

    save_llama(folder, shape, tensor, vocabulary, quantization, progress)
    save_tokenizer(tokenizer, folder)
    licence = str(fields.get("general.license", "unknown"))
    return GgufFacts(licence=licence, context_length=int(fields[f"{fields['general.architecture']}.context_length"]))


def gguf_parts(path: Path) -> list[Path]:
    """Return the files of a GGUF that was split, as llama.cpp names them, or this one. Raise ConfigurationError if one
    is missing, or this is not the first.
    """
    named = _PART.fullmatch(path.name)
    if named is None:
        return [path]
    begin, number, count = named[1], int(named[2]), int(named[3])
    parts = [path.with_name(f"{begin}-{place:05}-of-{count:05}.gguf") for place in range(1, count + 1)]
    if number != 1:
        raise ConfigurationError(f"{path.name} is a part of a model: give the first one, {parts[0].name}")
    if missing := [part.name for part in parts if not part.is_file()]:
        raise ConfigurationError(f"{path.name} is the first of {count} parts, and {missing[0]} is not beside it")
    return parts


def _open(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(str(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no readable GGUF file: {error}") from error


def _read_shape(
    fields: Mapping[str, Any], *, tied: bool, rotary_factors: Sequence[float] | None, source: str
) -> LlamaShape:
    name = fields.get("general.architecture")
    architecture = _ARCHITECTURES.get(str(name))
    if architecture is None:
        raise unreadable_gguf(
            f"{source} is of the architecture {name!r}; only {', '.join(_ARCHITECTURES)} are read straight from GGUF"
        )
    scaling = fields.get(f"{name}.rope.scaling.type", "none")
    if scaling != "none":
        raise ConfigurationError(f"{source} scales its rotations ({scaling!r}), which is not read from GGUF")
    heads = int(fields[f"{name}.attention.head_count"])
    head_dim = int(fields.get(f"{name}.attention.key_length", fields[f"{name}.embedding_length"] // heads))
    rotary = int(fields.get(f"{name}.rope.dimension_count", head_dim))
    base = float(fields.get(f"{name}.rope.freq_base", 10_000.0))
    return LlamaShape(
        layers=int(fields[f"{name}.block_count"]),
        heads=heads,
        kv_heads=int(fields.get(f"{name}.attention.head_count_kv", heads)),
        head_dim=head_dim,
        rotary_dim=0 if rotary == head_dim else rotary,
        rotary_interleave=architecture.rotary_interleave,
        rope_base=base,
        rotary_scaling=None if rotary_factors is None else _rotary_scaling(rotary_factors, base, source),
        rms_epsilon=float(fields[f"{name}.attention.layer_norm_rms_epsilon"]),
        qkv_biases=architecture.qkv_biases,
        qk_norms=architecture.qk_norms,
        tied_embeddings=tied,
    )


def _rotary_scaling(factors: Sequence[float], base: float, source: str) -> RotaryScaling:
    """Return the scaling that gives these factors. The file has them alone, and not the four numbers that made them:
    all but the largest factor are those of Llama 3.1, or the file is refused.
    """
    scaling = RotaryScaling(factor=max(factors))
    longest, shortest = scaling.original / scaling.low, scaling.original / scaling.high
    for index, factor in enumerate(factors):
        wave = 2 * math.pi * base ** (index / len(factors))  # tokens of a turn
        kept = (scaling.original / wave - scaling.low) / (scaling.high - scaling.low)
        blended = 1 / (kept + (1 - kept) / scaling.factor)
        expected = 1.0 if wave < shortest else scaling.factor if wave > longest else blended
        if not math.isclose(factor, expected, rel_tol=1e-3):
            raise unreadable_gguf(f"{source} scales its rotations otherwise than Llama 3.1")
    return scaling


def _check_tensors(present: frozenset[str], shape: LlamaShape, source: str) -> None:
    expected = tensor_names(shape)
    if missing := sorted(expected - present):
        raise ConfigurationError(f"{source} lacks {len(missing)} weights, the first is {missing[0]}")
    if unknown := sorted(present - expected):
        raise unreadable_gguf(
            f"{source} has {len(unknown)} weights that a plain network of its architecture does not, the first is "
            f"{unknown[0]}"
        )
