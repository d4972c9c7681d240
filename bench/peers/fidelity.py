"""Compares int8 with float32 in one process: oneDNN reads once, at its first call, which kernels it may use."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bench.flow import SMOLLM2
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.models.embedders.ctranslate2_embedder import CTranslate2Embedder

_KINDS = ("float32", "int8")


def main(arguments: Sequence[str]) -> None:
    """Print the comparison as JSON. The folder has two homes with both models, and the texts."""
    folder = Path(arguments[0])
    asked = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    plain, small = (_vectors(folder / kind, asked["documents"] + asked["sentences"]) for kind in _KINDS)
    cosines = (plain * small).sum(axis=1)
    found = _language(folder, asked["documents"])
    print(json.dumps(found | {"mean": float(cosines.mean()), "least": float(cosines.min())}))


def compared(
    plain: NDArray[np.float32], small: NDArray[np.float32], following: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Compare two tables of logits (rows = positions, columns = tokens) by position, where these tokens follow.

    `plain` and `small` are the negative log probabilities of what follows in each, `divergence` is KL(plain, small)
    in nats, and `agreement` is 1 where both have the same most probable token.
    """
    first, second = _log_softmax(plain), _log_softmax(small)
    at = np.arange(len(following))
    return {
        "plain": -first[at, following],
        "small": -second[at, following],
        "divergence": (np.exp(first) * (first - second)).sum(axis=1),
        "agreement": (first.argmax(axis=1) == second.argmax(axis=1)).astype(np.float64),
    }


def _language(folder: Path, documents: Sequence[str]) -> dict[str, Any]:
    homes = [folder / kind / "models" / SMOLLM2 for kind in _KINDS]
    engines = [ctranslate2.Generator(str(home), intra_threads=1) for home in homes]
    tokenizer = Tokenizer.from_file(str(homes[0] / "tokenizer.json"))
    seconds, parts = [0.0, 0.0], []
    for document in documents:
        encoded = tokenizer.encode(document, add_special_tokens=False)
        tables = []
        for number, engine in enumerate(engines):
            begun = time.process_time()
            tables.append(np.array(engine.forward_batch([encoded.tokens]))[0][:-1])
            seconds[number] += time.process_time() - begun
        parts.append(compared(tables[0], tables[1], encoded.ids[1:]))
    mean = {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}
    return {
        "perplexity": float(np.exp(mean["plain"])),
        "ratio": float(np.exp(mean["small"] - mean["plain"])),
        "agreement": mean["agreement"],
        "divergence": mean["divergence"],
        "time": seconds[1] / seconds[0],
    }


def _vectors(home: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    return CTranslate2Embedder.load(home / "models" / DEFAULT_EMBEDDER).embed(texts)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide
