"""Cross-encoders and models of natural language inference (NLI) as verifiers, with sentence-transformers (the extra of
that name).
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ports import Relation, TextPair, Verdict
from headrace_workers.features.generation.models.added_tokens import read_plainly
from headrace_workers.features.generation.verifiers.verify_stage import within
from headrace_workers.features.knowledge.sentence_transformers_library import cannot_load, check_installed

_BATCH_ROWS: Final = 32
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
        entails = next((number for number, each in labels.items() if each.lower().startswith(_ENTAILS)), None)
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
        texts = [(_text(each.first), _text(each.second)) for each in pairs]
        turned = [
            (second, first)
            for (first, second), each in zip(texts, pairs, strict=True)
            if both and each.relation is not Relation.SUPPORTED
        ]
        found = within(self._name, self._most_seconds, lambda: self._values([*texts, *turned]))
        if isinstance(found, HeadraceError):
            return [found] * len(pairs)
        values, took = found
        back = iter(values[len(texts) :])
        lower = [
            min(value, next(back)) if both and each.relation is not Relation.SUPPORTED else value
            for value, each in zip(values, pairs, strict=False)
        ]
        return [Verdict(value, None, took * 1000) for value in lower]

    def _values(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        apply = torch.nn.Sigmoid() if self._entails is None else torch.nn.Softmax(dim=-1)
        with self._lock:
            scores = self._model.predict(
                list(texts), batch_size=_BATCH_ROWS, show_progress_bar=False, convert_to_numpy=True,
                activation_fn=apply,
            )  # fmt: skip
        return [float(each if self._entails is None else each[self._entails]) for each in scores]


def _text(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
