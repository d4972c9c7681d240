"""Cross-encoders with sentence-transformers (the extra of that name)."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.added_tokens import read_plainly
from headrace_workers.features.knowledge.sentence_transformers_library import cannot_load, check_installed

_BATCH_ROWS = 32


class SentenceTransformersReranker:
    """A loaded cross-encoder. Thread-safe: one call is computed at a time, on torch's threads."""

    def __init__(self, name: str, model: Any) -> None:
        read_plainly(model)
        self._model = model
        self._name = name
        self._lock = threading.Lock()  # the library changes the model's tokenizer while it encodes

    @classmethod
    def load(cls, source: str, *, device: str = "cpu") -> Self:
        """Load a folder, or a model that the hub has or this machine keeps (`owner/name`).

        ConfigurationError when the library is missing, the model cannot be loaded, or it gives a pair of texts more
        than one figure.
        """
        check_installed(source)
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(source, device=device)
        except Exception as error:  # the library raises whatever its parts do
            raise cannot_load(source, error) from error
        if model.num_labels != 1:
            raise ConfigurationError(
                f"{source} gives a pair of texts {model.num_labels} figures: a reranker gives one, that of relevance"
            )
        folder = Path(source)
        return cls(folder.resolve().name if folder.is_dir() else source, model)

    @property
    def name(self) -> str:
        """The model's name in logs."""
        return self._name

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return how well each passage answers the question. A long passage is cut at its end, by the model's limit."""
        if not passages:
            return []
        pairs = [(_text(question), _text(passage)) for passage in passages]
        with self._lock:
            scores = self._model.predict(pairs, batch_size=_BATCH_ROWS, show_progress_bar=False, convert_to_numpy=True)
        return [float(score) for score in scores]


def _text(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
