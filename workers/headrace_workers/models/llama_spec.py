"""A Llama-shaped network as a CTranslate2 folder, from plain numpy arrays: neither torch nor transformers is needed.

Weights are asked for by the names that GGUF gives them (`blk.0.attn_q.weight`), each as (rows = outputs, columns =
inputs). `rotary_interleave` says in which order the rows of q and k are: llama.cpp's for `llama` is the interleaved
one. Other networks of this shape add biases of q, k and v (`blk.0.attn_q.bias`), or norms of q and k
(`blk.0.attn_q_norm.weight`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_workers.models.quantization import is_int8, quantize, quantize_layer

if TYPE_CHECKING:
    import numpy as np

    Tensors = Callable[[str], "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryScaling:
    """The scaling of slow rotations that came with Llama 3.1: the slowest turn `factor` times slower.

    `original` is the context in tokens that the network was first trained with; a rotation that turns fewer than `low`
    times in it is scaled wholly, one that turns more than `high` times not at all.
    """

    factor: float
    low: float = 1.0
    high: float = 4.0
    original: int = 8192


def scale_rotations(attention: Any, scaling: RotaryScaling) -> None:
    """Write the scaling into the description of an attention. CTranslate2's converter leaves two of the four out."""
    import numpy as np

    attributes = vars(attention)  # it refuses to be given attributes that it did not have
    attributes["rotary_scaling_factor"] = np.dtype("float32").type(scaling.factor)
    attributes["rotary_low_freq_factor"] = np.dtype("float32").type(scaling.low)
    attributes["rotary_high_freq_factor"] = np.dtype("float32").type(scaling.high)
    attributes["original_max_position_embeddings"] = np.dtype("int32").type(scaling.original)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """The numbers that fix the network, beside its weights. `rotary_dim` 0 turns the whole head."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_base: float
    rms_epsilon: float
    rotary_dim: int = 0
    rotary_interleave: bool = True
    rotary_scaling: RotaryScaling | None = None
    qkv_biases: bool = False
    qk_norms: bool = False
    tied_embeddings: bool = True  # the output layer is the embedding again


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The tokens by id, and the special tokens of the engine."""

    tokens: Sequence[str]
    bos: str
    eos: str
    unk: str


def tensor_names(shape: LlamaShape) -> frozenset[str]:
    """Return the names of all weights that a network of this shape has."""
    names = {"token_embd.weight", "output_norm.weight"} | (set() if shape.tied_embeddings else {"output.weight"})
    parts = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    of_layer = [f"{part}.weight" for part in parts]
    if shape.qkv_biases:
        of_layer += [f"{part}.bias" for part in ("attn_q", "attn_k", "attn_v")]
    if shape.qk_norms:
        of_layer += ["attn_q_norm.weight", "attn_k_norm.weight"]
    return frozenset(names | {f"blk.{i}.{name}" for i in range(shape.layers) for name in of_layer})


def save_llama(
    folder: Path,
    shape: LlamaShape,
    tensor: "Tensors",
    vocabulary: Vocabulary,
    quantization: str | None,
    progress: Callable[[float], None] = lambda done: None,
) -> None:
    """Write `model.bin`, `config.json` and `vocabulary.json`; `quantization` None keeps the arrays' own types.

    Each layer is written as int8 before the next is read, so that memory holds one layer in float32, not all.
    """
    spec = _empty_spec(shape)
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensor("token_embd.weight")
    quantize_layer(decoder.embeddings, quantization)
    if shape.tied_embeddings:
        decoder.projection.weight = decoder.embeddings.weight
        decoder.projection.weight_scale = decoder.embeddings.weight_scale
    else:
        decoder.projection.weight = tensor("output.weight")
        quantize_layer(decoder.projection, quantization)
    decoder.layer_norm.gamma = tensor("output_norm.weight")
    quantize_layer(decoder.layer_norm, quantization)
    for index, layer in enumerate(decoder.layer):
        _fill_layer(layer, f"blk.{index}.", shape, tensor)
        quantize_layer(layer, quantization)
        progress((index + 1) / shape.layers)
    spec.register_vocabulary(list(vocabulary.tokens))
    spec.config.bos_token = vocabulary.bos
    spec.config.eos_token = vocabulary.eos
    spec.config.unk_token = vocabulary.unk
    spec.config.layer_norm_epsilon = shape.rms_epsilon
    if is_int8(quantization):
        spec.validate()
        _share_embeddings(decoder)
    else:
        quantize(spec, quantization)
    spec.save(str(folder))


def _empty_spec(shape: LlamaShape) -> Any:
    from ctranslate2.specs import TransformerDecoderModelSpec, attention_spec, common_spec

    scaled = shape.rotary_scaling is not None
    return TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=shape.rotary_dim,
        rotary_interleave=shape.rotary_interleave,
        rotary_base=shape.rope_base,
        rotary_scaling_type=attention_spec.RotaryScalingType.Llama3 if scaled else None,
        num_heads_kv=None if shape.kv_heads == shape.heads else shape.kv_heads,
        head_dim=shape.head_dim,
        qk_norm=shape.qk_norms,
    )


def _share_embeddings(decoder: Any) -> None:
    """Let the output layer take the int8 weights of the embeddings where they are the same: the file holds them once.

    CTranslate2 looks for equal variables itself, but among int8 weights it would also join unlike ones of equal scales.
    """
    from ctranslate2.specs.model_spec import OPTIONAL

    ours, theirs = decoder.projection, decoder.embeddings
    if ours.weight.equal(theirs.weight) and ours.weight_scale.equal(theirs.weight_scale):
        ours.weight, ours.weight_scale = "decoder/embeddings/weight", OPTIONAL


def _fill_layer(layer: Any, prefix: str, shape: LlamaShape, tensor: "Tensors") -> None:
    import numpy as np

    attention, ffn = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = tensor(f"{prefix}attn_norm.weight")
    attention.linear[0].weight = np.concatenate([tensor(f"{prefix}attn_{part}.weight") for part in ("q", "k", "v")])
    if shape.qkv_biases:
        attention.linear[0].bias = np.concatenate([tensor(f"{prefix}attn_{part}.bias") for part in ("q", "k", "v")])
    if shape.qk_norms:
        attention.q_norm.gamma = tensor(f"{prefix}attn_q_norm.weight")
        attention.k_norm.gamma = tensor(f"{prefix}attn_k_norm.weight")
    if shape.rotary_scaling is not None:
        scale_rotations(attention, shape.rotary_scaling)
    attention.linear[1].weight = tensor(f"{prefix}attn_output.weight")
    ffn.layer_norm.gamma = tensor(f"{prefix}ffn_norm.weight")
    ffn.linear_0.weight = tensor(f"{prefix}ffn_gate.weight")
    ffn.linear_0_noact.weight = tensor(f"{prefix}ffn_up.weight")
    ffn.linear_1.weight = tensor(f"{prefix}ffn_down.weight")
