"""A GGUF file as a CTranslate2 folder, without torch: 135M weights take five seconds.

It reads the architectures `llama`, `qwen2` and `qwen3`, in every format of weights that GGUF has. If the file holds
more than these networks have, such as experts, it is refused by name: nothing is dropped.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.gguf_tokenizer import read_tokenizer, save_tokenizer, unreadable_gguf
from headrace_workers.features.generation.models.llama_spec import (
    LlamaShape,
    RotaryScaling,
    Vocabulary,
    save_llama,
    tensor_names,
)


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
_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_ROTARY_FACTORS: Final = "rope_freqs.weight"  # how many times slower each rotation is, as of Llama 3.1


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
    parts = [path.with_name(f"{begin}-{each:05}-of-{count:05}.gguf") for each in range(1, count + 1)]
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
