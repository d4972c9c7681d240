"""The adapter of sentence-transformers (the extra of that name): embedders, rerankers and verifiers."""

import hashlib
import json
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.added_tokens import read_plainly
from headrace_workers.models.embedders.unit import unit_length
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict
from headrace_workers.models.verifiers.verify_stage import within

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_installed(source: str) -> None:
    """Raise ConfigurationError if the library that the model `source` needs is not installed."""
    if find_spec("sentence_transformers") is None:
        raise ConfigurationError(
            f"sentence-transformers is not installed, which {source} needs: "
            "pip install 'headrace[sentence-transformers]'"
        )


def cannot_load(source: str, error: Exception) -> ConfigurationError:
    """Return the error for a model that the library cannot load."""
    return ConfigurationError(
        f"sentence-transformers cannot load {source}: {error}; give the model's folder, or its name on the hub"
    )


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
            tokenizer = self._model.tokenizer(_clean(text), add_special_tokens=False, truncation=False, verbose=False)
        return len(tokenizer["input_ids"])

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


_RERANKED_ROWS = 32


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
        pairs = [(_text_of_passage(question), _text_of_passage(passage)) for passage in passages]
        with self._lock:
            scores = self._model.predict(
                pairs, batch_size=_RERANKED_ROWS, show_progress_bar=False, convert_to_numpy=True
            )
        return [float(score) for score in scores]


def _text_of_passage(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


_VERIFIED_ROWS: Final = 32
_ENTAILS: Final = "entail"  # the beginning of the label's name, in every NLI model that we know


class CrossEncoderVerifier:
    """A loaded model that gives a pair of texts one figure, or the labels of NLI. Thread-safe: one call at a time.

    With the labels of NLI, both texts of a symmetric relation must entail each other; the lower probability counts. It
    runs in this process, so that no text leaves it.
    """

    def __init__(self, name: str, model: Any, entails: int | None, most_seconds: float | None = None) -> None:
        read_plainly(model)
        self._name = name
        self._model = model
        self._entails = entails
        self._most_seconds = most_seconds
        self._lock = threading.Lock()

    @classmethod
    def load(cls, source: str, *, most_seconds: float | None = None, device: str = "cpu") -> Self:
        """Load a folder, or a model that the hub has or this machine keeps (`owner/name`).

        ConfigurationError when it cannot be loaded, or has several labels of which none is `entailment`.
        """
        check_installed(source)
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(source, device=device)
        except Exception as error:  # the library raises whatever its parts do
            raise cannot_load(source, error) from error
        labels: dict[int, str] = dict(model.config.id2label)
        entails = next((number for number, label in labels.items() if label.lower().startswith(_ENTAILS)), None)
        if model.num_labels != 1 and entails is None:
            raise ConfigurationError(
                f"{source} has the labels {', '.join(labels.values())}: a verifier gives one figure, or has the label "
                "`entailment`"
            )
        folder = Path(source)
        return cls(folder.resolve().name if folder.is_dir() else source, model, entails, most_seconds)

    @property
    def name(self) -> str:
        """The model's name in receipts and logs."""
        return self._name

    @property
    def provider(self) -> str | None:
        """Return None: the model runs in this process."""
        return None

    def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        """Return a verdict for each pair. A long text is cut at its end, by the model's limit."""
        if not pairs:
            return []
        both = self._entails is not None
        texts = [(_text(pair.first), _text(pair.second)) for pair in pairs]
        turned = [
            (second, first)
            for (first, second), pair in zip(texts, pairs, strict=True)
            if both and pair.relation is not Relation.SUPPORTED
        ]
        found = within(self._name, self._most_seconds, lambda: self._values([*texts, *turned]))
        if isinstance(found, HeadraceError):
            return [found] * len(pairs)
        values, took = found
        back = iter(values[len(texts) :])
        lower = [
            min(value, next(back)) if both and pair.relation is not Relation.SUPPORTED else value
            for value, pair in zip(values, pairs, strict=False)
        ]
        return [Verdict(value, None, took * 1000) for value in lower]

    def _values(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        apply = torch.nn.Sigmoid() if self._entails is None else torch.nn.Softmax(dim=-1)
        with self._lock:
            scores = self._model.predict(
                list(texts), batch_size=_VERIFIED_ROWS, show_progress_bar=False, convert_to_numpy=True,
                activation_fn=apply,
            )  # fmt: skip
        return [float(score if self._entails is None else score[self._entails]) for score in scores]


def _text(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
