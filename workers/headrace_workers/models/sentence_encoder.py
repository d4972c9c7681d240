"""A sentence-transformers folder as a CTranslate2 folder: a BERT encoder whose vectors are averaged over the tokens.
Neither torch nor transformers is needed.

All other contents of such a folder (another network, another pooling, a further layer) are refused by name: without
them, the vectors would differ from the model's.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.quantization import quantize
from headrace_workers.models.registry import copy_present

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Callable[[str], "np.ndarray[Any, Any]"]

_MAX_HEADER: Final = 100_000_000  # bytes, as the format has it
_WIDTHS: Final = {"F32": 4, "F16": 2, "BF16": 2}

_EMBEDDINGS: Final = ("word_embeddings", "token_type_embeddings", "position_embeddings")
_QUERY, _KEY, _VALUE = (f"attention.self.{part}" for part in ("query", "key", "value"))
_OUTPUT, _OUTPUT_NORM = "attention.output.dense", "attention.output.LayerNorm"
_UP, _DOWN, _DOWN_NORM = "intermediate.dense", "output.dense", "output.LayerNorm"
_PARTS: Final = (_QUERY, _KEY, _VALUE, _OUTPUT, _OUTPUT_NORM, _UP, _DOWN, _DOWN_NORM)
MODULES_FILE: Final = "modules.json"  # every sentence-transformers folder has it, and no other does
WEIGHTS_FILE: Final = "model.safetensors"
_ELSE: Final = (
    "the adapter for sentence-transformers takes any such model (pip install 'headrace[sentence-transformers]')"
)
_UNUSED: Final = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")  # of no part in the average
_NETWORK: Final[dict[str, Any]] = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The place of a tensor in its file, in bytes from the beginning, with its type and shape."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return all tensors of the file by name. Raise ConfigurationError unless it is a whole safetensors file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError(f"its header would have {length} bytes, the file has {size}")
            header: dict[str, Any] = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _stored(name, entry, 8 + length, size) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is no readable safetensors file: {error}") from error


def read_tensor(path: Path, stored: StoredTensor) -> "NDArray[np.float32]":
    """Return one tensor, in memory of its own, so that it may be written to."""
    import numpy as np

    with path.open("rb") as file:
        file.seek(stored.start)
        content = file.read(stored.end - stored.start)
    if stored.kind == "BF16":  # the upper half of a float32
        wide = np.frombuffer(content, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").astype(np.float32).reshape(stored.shape)
    return (
        np.frombuffer(content, dtype="<f4" if stored.kind == "F32" else "<f2").astype(np.float32).reshape(stored.shape)
    )


def _stored(name: str, entry: Mapping[str, Any], behind: int, size: int) -> StoredTensor:
    kind, shape = str(entry["dtype"]), tuple(int(length) for length in entry["shape"])
    start, end = (behind + int(offset) for offset in entry["data_offsets"])
    if kind in _WIDTHS and end - start != _WIDTHS[kind] * math.prod(shape):
        raise ValueError(f"{name} of shape {shape} in {kind} does not fill its {end - start} bytes")
    if not behind <= start <= end <= size:
        raise ValueError(f"{name} lies outside the file")
    return StoredTensor(kind, shape, start, end)


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
    found |= {f"embeddings.LayerNorm.{name}": (shape.hidden,) for name in ("weight", "bias")}
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
    for name in ("weight", "bias"):
        stacked = np.concatenate([tensor(f"{prefix}{part}.{name}") for part in (_QUERY, _KEY, _VALUE)])
        setattr(attention.linear[0], name, stacked)
    for linear, part in ((attention.linear[1], _OUTPUT), (ffn.linear_0, _UP), (ffn.linear_1, _DOWN)):
        linear.weight, linear.bias = tensor(f"{prefix}{part}.weight"), tensor(f"{prefix}{part}.bias")
    _fill_norm(attention.layer_norm, f"{prefix}{_OUTPUT_NORM}", tensor)
    _fill_norm(ffn.layer_norm, f"{prefix}{_DOWN_NORM}", tensor)


def _fill_norm(norm: Any, name: str, tensor: "Tensors") -> None:
    norm.gamma, norm.beta = tensor(f"{name}.weight"), tensor(f"{name}.bias")


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """Facts about the folder that go into a model card."""

    max_tokens: int


def is_sentence_encoder(folder: Path) -> bool:
    """Return True if this is the folder of a sentence-transformers model."""
    return (folder / MODULES_FILE).is_file()


def convert_sentence_encoder(folder: Path, draft: Path, quantization: str) -> EncoderFacts:
    """Write network and tokenizer into `draft`. ConfigurationError names what cannot be converted."""
    _check_modules(folder)
    config = _read(folder, "config.json")
    for name, wanted in _NETWORK.items():
        if config.get(name, wanted if name == "position_embedding_type" else None) != wanted:
            raise ConfigurationError(
                f"{folder / 'config.json'}: {name} is {config.get(name)!r}, and only {wanted!r} is converted; {_ELSE}"
            )
    shape = _shape(config, folder)
    weights = folder / WEIGHTS_FILE
    header = read_header(weights)
    _check_tensors(header, shape, weights)
    tokens, unk = _vocabulary(folder, shape.vocabulary)
    save_bert(draft, shape, lambda name: read_tensor(weights, header[name]), tokens, unk, quantization)
    copy_present(("tokenizer.json",), folder, draft)
    return EncoderFacts(_max_tokens(folder, shape.positions))


def _check_modules(folder: Path) -> None:
    listed: Any = _read(folder, MODULES_FILE, list)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed if isinstance(module, Mapping)]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigurationError(
            f"{folder / MODULES_FILE} lists {', '.join(kinds) or 'nothing'}; only Transformer, Pooling and Normalize "
            f"are converted; {_ELSE}"
        )
    pooling = _read(folder, f"{listed[1].get('path', '')}/config.json")
    # Older folders say each kind of pooling in an entry of its own.
    modes = [
        name.removeprefix("pooling_mode_") for name, on in pooling.items() if name.startswith("pooling_mode_") and on
    ]
    if pooling.get("pooling_mode", modes) not in ("mean", ["mean_tokens"]):
        raise ConfigurationError(
            f"{folder.name} pools by {pooling.get('pooling_mode', modes)!r}, and only the mean is converted; {_ELSE}"
        )
    if _optional(folder, "sentence_bert_config.json").get("do_lower_case"):
        raise ConfigurationError(f"{folder.name} asks for lower case before its tokenizer; {_ELSE}")


def _shape(config: Mapping[str, Any], folder: Path) -> BertShape:
    try:
        return BertShape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config["type_vocab_size"]),
            norm_epsilon=float(config["layer_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{folder / 'config.json'} lacks a number of the network: {error}") from error


def _check_tensors(header: Mapping[str, StoredTensor], shape: BertShape, weights: Path) -> None:
    expected = tensor_shapes(shape)
    if missing := sorted(expected.keys() - header.keys()):
        raise ConfigurationError(f"{weights} lacks {len(missing)} weights, the first is {missing[0]}; {_ELSE}")
    if unknown := sorted(header.keys() - expected.keys() - set(_UNUSED)):
        raise ConfigurationError(
            f"{weights} has {len(unknown)} weights that a plain BERT does not, the first is {unknown[0]}; {_ELSE}"
        )
    for name, wanted in expected.items():
        stored = header[name]
        if stored.shape != wanted or stored.kind not in ("F32", "F16", "BF16"):
            raise ConfigurationError(
                f"{weights}: {name} has the shape {stored.shape} in {stored.kind}; it must be {wanted} in F32, F16 or "
                "BF16"
            )


def _vocabulary(folder: Path, rows: int) -> tuple[list[str], str]:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for files that it refuses
        raise ConfigurationError(f"{path} cannot be loaded: {error}") from error
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    if known > rows:
        raise ConfigurationError(f"{path} has {known} tokens, but the model only {rows} embeddings")
    tokens = [tokenizer.id_to_token(index) or f"<extra_id_{index}>" for index in range(rows)]
    unk = getattr(tokenizer.model, "unk_token", None)
    if unk not in tokens:
        raise ConfigurationError(f"{path} names no token for what it does not know; {_ELSE}")
    return tokens, str(unk)


def _max_tokens(folder: Path, positions: int) -> int:
    """Return the number of tokens that the model reads of a text. Newer folders state it beside the tokenizer."""
    limit = _optional(folder, "sentence_bert_config.json").get("max_seq_length")
    limit = limit or _optional(folder, "tokenizer_config.json").get("model_max_length")
    return min(limit, positions) if isinstance(limit, int) and limit > 2 else positions


def _optional(folder: Path, name: str) -> dict[str, Any]:
    return _read(folder, name) if (folder / name).is_file() else {}


def _read(folder: Path, name: str, kind: type = dict) -> Any:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder / name} cannot be read: {error}") from error
    if not isinstance(content, kind):
        raise ConfigurationError(f"{folder / name} holds {type(content).__name__}, not {kind.__name__}")
    return content
