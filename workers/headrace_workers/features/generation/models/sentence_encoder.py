"""A sentence-transformers folder as a CTranslate2 folder: a BERT encoder whose vectors are averaged over the tokens.

Whatever else such a folder may ask for (another network, another pooling, a layer behind it) is refused by name, never
dropped: the vectors would be others than the model's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.bert_spec import BertShape, save_bert, tensor_shapes
from headrace_workers.features.generation.models.safetensors_file import StoredTensor, read_header, read_tensor
from headrace_workers.features.generation.models.staging import copy_present

MODULES_FILE: Final = "modules.json"  # every sentence-transformers folder has it, and no other does
WEIGHTS_FILE: Final = "model.safetensors"
_ELSE: Final = (
    "the adapter for sentence-transformers takes any such model (pip install 'headrace[sentence-transformers]')"
)
_UNUSED: Final = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")  # of no part in the average
_NETWORK: Final[dict[str, Any]] = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


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
