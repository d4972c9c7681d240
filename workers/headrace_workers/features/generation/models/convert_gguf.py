"""A GGUF file as a CTranslate2 folder, without torch: 135M weights take five seconds.

It reads the architectures `llama` and `qwen2`, in every format of weights that GGUF has. If the file holds more than
these networks have (experts, scaled rotations), it is refused by name: nothing is dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.gguf_tokenizer import read_tokenizer, save_tokenizer, unreadable_gguf
from headrace_workers.features.generation.models.llama_spec import LlamaShape, Vocabulary, save_llama, tensor_names


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """Facts about a GGUF file that go into its model card."""

    licence: str
    context_length: int


@dataclass(frozen=True, slots=True)
class _Architecture:
    """The differences between architectures of Llama's shape.

    llama.cpp reorders the rows of q and k of `llama` so that it turns neighbours, and keeps the order of `qwen2`, where
    it turns the two halves of a head.
    """

    rotary_interleave: bool
    qkv_biases: bool


_ARCHITECTURES: Final = {
    "llama": _Architecture(rotary_interleave=True, qkv_biases=False),
    "qwen2": _Architecture(rotary_interleave=False, qkv_biases=True),
}


def convert_gguf(
    path: Path, folder: Path, quantization: str, progress: Callable[[float], None] = lambda done: None
) -> GgufFacts:
    """Write the network and its tokenizer into the folder. Raise ConfigurationError, which names the obstacle.

    `progress` is called with how much of the network is done, from 0 to 1.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(str(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no readable GGUF file: {error}") from error
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shape = _read_shape(fields, tied="output.weight" not in tensors, source=path.name)
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


def _read_shape(fields: Mapping[str, Any], *, tied: bool, source: str) -> LlamaShape:
    name = fields.get("general.architecture")
    architecture = _ARCHITECTURES.get(str(name))
    if architecture is None:
        raise unreadable_gguf(
            f"{source} is of the architecture {name!r}; only {' and '.join(map(repr, _ARCHITECTURES))} are read "
            "straight from GGUF"
        )
    scaling = fields.get(f"{name}.rope.scaling.type", "none")
    if scaling != "none":
        raise ConfigurationError(f"{source} scales its rotations ({scaling!r}), which is not read from GGUF")
    heads = int(fields[f"{name}.attention.head_count"])
    head_dim = int(fields.get(f"{name}.attention.key_length", fields[f"{name}.embedding_length"] // heads))
    rotary = int(fields.get(f"{name}.rope.dimension_count", head_dim))
    return LlamaShape(
        layers=int(fields[f"{name}.block_count"]),
        heads=heads,
        kv_heads=int(fields.get(f"{name}.attention.head_count_kv", heads)),
        head_dim=head_dim,
        rotary_dim=0 if rotary == head_dim else rotary,
        rotary_interleave=architecture.rotary_interleave,
        rope_base=float(fields.get(f"{name}.rope.freq_base", 10_000.0)),
        rms_epsilon=float(fields[f"{name}.attention.layer_norm_rms_epsilon"]),
        qkv_biases=architecture.qkv_biases,
        tied_embeddings=tied,
    )


def _check_tensors(present: frozenset[str], shape: LlamaShape, source: str) -> None:
    expected = tensor_names(shape)
    if missing := sorted(expected - present):
        raise ConfigurationError(f"{source} lacks {len(missing)} weights, the first is {missing[0]}")
    if unknown := sorted(present - expected):
        raise unreadable_gguf(
            f"{source} has {len(unknown)} weights that a plain network of its architecture does not, the first is "
            f"{unknown[0]}"
        )
