"""A BERT encoder as a CTranslate2 folder, from plain numpy arrays: neither torch nor transformers is needed.

Weights are asked for by the names that Transformers gives them (`encoder.layer.0.attention.self.query.weight`), each
as (rows = outputs, columns = inputs). Devlin et al., arXiv 1810.04805: layer norms come after each part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.features.generation.models.int8_weights import quantize

if TYPE_CHECKING:
    import numpy as np

    Tensors = Callable[[str], "np.ndarray[Any, Any]"]

_EMBEDDINGS: Final = ("word_embeddings", "token_type_embeddings", "position_embeddings")
_QUERY, _KEY, _VALUE = (f"attention.self.{part}" for part in ("query", "key", "value"))
_OUTPUT, _OUTPUT_NORM = "attention.output.dense", "attention.output.LayerNorm"
_UP, _DOWN, _DOWN_NORM = "intermediate.dense", "output.dense", "output.LayerNorm"
_PARTS: Final = (_QUERY, _KEY, _VALUE, _OUTPUT, _OUTPUT_NORM, _UP, _DOWN, _DOWN_NORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The numbers that fix the network, beside its weights."""

    layers: int
    heads: int
    hidden: int
    inner: int  # between the two layers of a feed-forward part
    vocabulary: int
    positions: int
    types: int  # of tokens: first or second sentence
    norm_epsilon: float


def tensor_shapes(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Return the weights that a network of this shape has, with the shape of each."""
    rows = dict(zip(_EMBEDDINGS, (shape.vocabulary, shape.types, shape.positions), strict=True))
    found: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}.weight": (count, shape.hidden) for name, count in rows.items()
    }
    found |= {f"embeddings.LayerNorm.{each}": (shape.hidden,) for each in ("weight", "bias")}
    outputs = {_UP: shape.inner}
    inputs = {_DOWN: shape.inner}
    for index in range(shape.layers):
        for part in _PARTS:
            out = outputs.get(part, shape.hidden)
            flat = part.endswith("LayerNorm")
            name = f"encoder.layer.{index}.{part}"
            found[f"{name}.weight"] = (out,) if flat else (out, inputs.get(part, shape.hidden))
            found[f"{name}.bias"] = (out,)
    return found


def save_bert(
    folder: Path, shape: BertShape, tensor: "Tensors", tokens: Sequence[str], unk: str, quantization: str
) -> None:
    """Write `model.bin`, `config.json` and `vocabulary.json`. `tokens` are by id, as many as there are embeddings."""
    spec = _empty_spec(shape)
    encoder = spec.encoder
    encoder.scale_embeddings = False
    word, token_type, position = (tensor(f"embeddings.{name}.weight") for name in _EMBEDDINGS)
    encoder.embeddings[0].weight, encoder.embeddings[1].weight = word, token_type
    encoder.position_encodings.encodings = position
    _fill_norm(encoder.layernorm_embedding, "embeddings.LayerNorm", tensor)
    for index, layer in enumerate(encoder.layer):
        _fill_layer(layer, f"encoder.layer.{index}.", tensor)
    spec.register_vocabulary(list(tokens))
    spec.config.unk_token = unk
    spec.config.layer_norm_epsilon = shape.norm_epsilon
    quantize(spec, quantization)
    spec.save(str(folder))


def _empty_spec(shape: BertShape) -> Any:
    from ctranslate2.specs import TransformerEncoderModelSpec, TransformerEncoderSpec, common_spec

    return TransformerEncoderModelSpec(
        TransformerEncoderSpec(
            shape.layers,
            shape.heads,
            pre_norm=False,
            activation=common_spec.Activation.GELU,
            layernorm_embedding=True,
            num_source_embeddings=2,
            embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        ),
        pooling_layer=False,
    )


def _fill_layer(layer: Any, prefix: str, tensor: "Tensors") -> None:
    import numpy as np

    attention, ffn = layer.self_attention, layer.ffn
    for each in ("weight", "bias"):
        stacked = np.concatenate([tensor(f"{prefix}{part}.{each}") for part in (_QUERY, _KEY, _VALUE)])
        setattr(attention.linear[0], each, stacked)
    for linear, part in ((attention.linear[1], _OUTPUT), (ffn.linear_0, _UP), (ffn.linear_1, _DOWN)):
        linear.weight, linear.bias = tensor(f"{prefix}{part}.weight"), tensor(f"{prefix}{part}.bias")
    _fill_norm(attention.layer_norm, f"{prefix}{_OUTPUT_NORM}", tensor)
    _fill_norm(ffn.layer_norm, f"{prefix}{_DOWN_NORM}", tensor)


def _fill_norm(norm: Any, name: str, tensor: "Tensors") -> None:
    norm.gamma, norm.beta = tensor(f"{name}.weight"), tensor(f"{name}.bias")
