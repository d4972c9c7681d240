"""A GGUF file of the Llama architecture as a CTranslate2 folder: five seconds for 135M weights, and no torch.

Whatever the file holds beyond a plain Llama (biases, experts, scaled rotations) is refused by name, never dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.gguf_tokenizer import read_tokenizer, save_tokenizer, unreadable_gguf
from headrace_workers.features.generation.models.llama_spec import LlamaShape, Vocabulary, save_llama, tensor_names


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """Facts about a GGUF file that go into its model card."""

    licence: str
    context_length: int


def convert_gguf(path: Path, folder: Path, quantization: str) -> GgufFacts:
    """Write the network and its tokenizer into the folder. ConfigurationError names what cannot be converted."""
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

    save_llama(folder, shape, tensor, vocabulary, quantization)
    save_tokenizer(tokenizer, folder)
    licence = str(fields.get("general.license", "unknown"))
    return GgufFacts(licence=licence, context_length=int(fields["llama.context_length"]))


def _read_shape(fields: Mapping[str, Any], *, tied: bool, source: str) -> LlamaShape:
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise unreadable_gguf(
            f"{source} is of the architecture {architecture!r}; only 'llama' is read straight from GGUF"
        )
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ConfigurationError(f"{source} scales its rotations ({scaling!r}), which is not read from GGUF")
    heads = int(fields["llama.attention.head_count"])
    head_dim = int(fields.get("llama.attention.key_length", fields["llama.embedding_length"] // heads))
    rotary = int(fields.get("llama.rope.dimension_count", head_dim))
    return LlamaShape(
        layers=int(fields["llama.block_count"]),
        heads=heads,
        kv_heads=int(fields.get("llama.attention.head_count_kv", heads)),
        head_dim=head_dim,
        rotary_dim=0 if rotary == head_dim else rotary,
        rope_base=float(fields.get("llama.rope.freq_base", 10_000.0)),
        rms_epsilon=float(fields["llama.attention.layer_norm_rms_epsilon"]),
        tied_embeddings=tied,
    )


def _check_tensors(present: frozenset[str], shape: LlamaShape, source: str) -> None:
    expected = tensor_names(shape)
    if missing := sorted(expected - present):
        raise ConfigurationError(f"{source} lacks {len(missing)} weights, the first is {missing[0]}")
    if unknown := sorted(present - expected):
        raise unreadable_gguf(
            f"{source} has {len(unknown)} weights that a plain Llama does not, the first is {unknown[0]}"
        )
