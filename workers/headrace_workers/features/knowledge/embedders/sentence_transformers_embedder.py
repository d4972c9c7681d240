"""Vectors with sentence-transformers (the extra of that name): any model that it loads, slower and with torch."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from headrace_workers.features.generation.models.added_tokens import read_plainly
from headrace_workers.features.knowledge.embedders.unit import unit_length
from headrace_workers.features.knowledge.sentence_transformers_library import cannot_load, check_installed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_ROWS = 32
_NO_LIMIT = 100_000_000  # tokens; some models name none


class SentenceTransformersEmbedder:
    """A loaded model. Thread-safe: one call is computed at a time, on torch's threads."""

    def __init__(self, name: str, model: Any) -> None:
        read_plainly(model)
        self._model = model
        self._id = f"{name}/{_number_format(model)}/{_fingerprint(model)[:12]}"
        self._lock = threading.Lock()  # the library changes the model's tokenizer while it encodes
        self._dimensions = int(self._encode([""]).shape[1])

    @classmethod
    def load(cls, source: str, *, device: str = "cpu") -> Self:
        """Load a folder, or a model that the hub has or this machine keeps (`owner/name`).

        ConfigurationError when the library is missing, or the model cannot be loaded.
        """
        check_installed(source)
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(source, device=device)
        except Exception as error:  # the library raises whatever its parts do: KeyError for a file that lacks an entry
            raise cannot_load(source, error) from error
        folder = Path(source)
        return cls(folder.resolve().name if folder.is_dir() else source, model)

    @property
    def id(self) -> str:
        """Name, number format, and a digest of the weights and of what the model does with them."""
        return self._id

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return self._dimensions

    @property
    def max_tokens(self) -> int:
        """The number of tokens that it reads of a text."""
        return int(self._model.max_seq_length or _NO_LIMIT)

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        with self._lock:
            found = self._model.tokenizer(_clean(text), add_special_tokens=False, truncation=False, verbose=False)
        return len(found["input_ids"])

    @property
    def added_tokens(self) -> int:
        """The number of tokens that its tokenizer puts around each text."""
        return int(self._model.tokenizer.num_special_tokens_to_add(pair=False))

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row of length 1 for each text, in their order."""
        if not texts:
            return np.empty((0, self._dimensions), dtype=np.float32)
        return unit_length(self._encode([_clean(text) for text in texts]))

    def _encode(self, texts: list[str]) -> "NDArray[np.float32]":
        with self._lock:
            vectors = self._model.encode(texts, batch_size=_BATCH_ROWS, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, dtype=np.float32)


def _clean(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number_format(model: Any) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _fingerprint(model: Any) -> str:
    """Return the SHA-256 over each module's name and settings, and over all weights in order of name."""
    digest = hashlib.sha256()
    described = [
        [type(module).__name__, module.get_config_dict() if hasattr(module, "get_config_dict") else {}]
        for module in model
    ]
    digest.update(json.dumps([described, model.max_seq_length], sort_keys=True, default=str).encode())
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
