"""A sentence-transformers folder with a tiny BERT of random weights, written without that library."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, HEADS, HIDDEN, INNER, POSITIONS, MAX_TOKENS = 2, 4, 32, 64, 48, 40
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?"
TOKENS = [*SPECIALS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "vocab_size": len(TOKENS) + 2,  # embeddings without a token, as padding
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def bert_weights() -> dict[str, np.ndarray]:
    """Random weights by the names of Transformers, and the two parts that are of no use here."""
    random = np.random.default_rng(7)

    def of(*shape: int) -> np.ndarray:
        return random.normal(0.0, 0.3, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": of(CONFIG["vocab_size"], HIDDEN),
        "embeddings.position_embeddings.weight": of(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": of(2, HIDDEN),
        "embeddings.LayerNorm.weight": 1 + of(HIDDEN),
        "embeddings.LayerNorm.bias": of(HIDDEN),
        "pooler.dense.weight": of(HIDDEN, HIDDEN),
        "pooler.dense.bias": of(HIDDEN),
    }
    linear = {
        f"attention.{part}": (HIDDEN, HIDDEN) for part in ("self.query", "self.key", "self.value", "output.dense")
    }
    linear |= {"intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}
    for index in range(LAYERS):
        prefix = f"encoder.layer.{index}."
        for part, (rows, columns) in linear.items():
            weights[f"{prefix}{part}.weight"], weights[f"{prefix}{part}.bias"] = of(rows, columns), of(rows)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{prefix}{part}.weight"], weights[f"{prefix}{part}.bias"] = 1 + of(HIDDEN), of(HIDDEN)
    return weights


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], kinds: Mapping[str, str] | None = None) -> None:
    """The file of these arrays; `kinds` names types that numpy has no word for (BF16)."""
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in tensors.items():
        content = array.tobytes()
        kind = (kinds or {}).get(name) or names[str(array.dtype)]
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(content)],
        }
        body += content
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)


def write_sentence_folder(folder: Path, change: Callable[[dict[str, Any]], None] = lambda files: None) -> Path:
    """The folder, after `change` had a look at its JSON files and, under `weights`, its tensors."""
    files: dict[str, Any] = {
        "config.json": dict(CONFIG),
        "modules.json": [
            {"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "weights": bert_weights(),
    }
    change(files)
    (folder / "1_Pooling").mkdir(parents=True)
    write_safetensors(folder / "model.safetensors", files.pop("weights"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocab={t: i for i, t in enumerate(TOKENS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(list(SPECIALS))
    # As files on the hub have it: both must be undone.
    tokenizer.enable_truncation(max_length=8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
