"""A classifier as a model that decides: a head on the embedder's vectors, which answers one question and abstains where
it is not sure.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from headrace_schemas import HeadraceError
from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.classifiers.card import Card
from headrace_workers.features.classifiers.novelty import Novelty
from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, QuestionScores
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.generator import Abstained, Completion, GivenUp, NoProbabilities, Request
from headrace_workers.models.heads import Floats, Head, softmax


class ClassifierGenerator:
    """A classifier as a model of jobs. Thread-safe, as its embedder is."""

    def __init__(
        self, alias: str, card: Card, head: Head, novelty: Novelty, embedder: CountingEmbedder, parallel: int = 1
    ) -> None:
        """Raise ConfigurationError where the head was trained over another embedder's vectors."""
        head.check_embedder(embedder, f"the classifier {alias}", f"headrace classifier train {alias}")
        self.alias = alias
        self.quantization = "float32"
        self.context_length = embedder.max_tokens
        self.parallel = parallel
        self._card, self._head, self._novelty, self._embedder = card, head, novelty, embedder

    @property
    def urgent(self) -> "ClassifierGenerator":
        """Return the same: nothing waits here."""
        return self

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Refuse all: it writes nothing."""
        return [
            InvalidRecord(f"{self.alias} is a classifier: it answers decisions and writes no text. Name another model")
            for _ in requests
        ]

    def label_probabilities(self, requests: Sequence[object]) -> NoReturn:
        """Raise NoProbabilities: it has no tokens."""
        raise NoProbabilities(f"{self.alias} is a classifier, and gives no probabilities of tokens")

    def decide(self, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
        """Answer the requests that are about its question alone, and that it is sure of; the others are Abstained."""
        found: list[Decided | HeadraceError] = [self._unread(request) or GivenUp() for request in requests]
        read = [
            place
            for place, decided in enumerate(found)
            if isinstance(decided, GivenUp) and not requests[place].given_up()
        ]
        if not read:
            return found
        vectors = self._embedder.embed([requests[place].messages[0].content for place in read])
        logits, foreign = self._head.logits(vectors), self._novelty.foreign(vectors)
        served = self._card.rule.served(logits, foreign)
        for place, is_served, is_foreign, row in zip(read, served, foreign, softmax(logits), strict=True):
            request = requests[place]
            found[place] = self._answer(request, row) if is_served else self._unsure(request, row, foreign=is_foreign)
        return found

    def _unread(self, request: DecisionRequest) -> Abstained | None:
        """Return why a request is not read; None for one that is."""
        if len(request.questions) != 1 or self._card.places(request.questions[0]) is None:
            return Abstained(f"it was trained for the question {self._card.question} alone, with its own choices")
        if len(request.messages) != 1 or request.messages[0].role != "user":
            return Abstained("it reads an input, and no conversation")
        if self._tokens(request) > self._embedder.max_tokens:
            return Abstained(f"the input has {self._tokens(request)} tokens, and it reads {self._embedder.max_tokens}")
        return None

    def _tokens(self, request: DecisionRequest) -> int:
        return self._embedder.count_tokens(request.messages[0].content) + self._embedder.added_tokens

    def _answer(self, request: DecisionRequest, row: Floats) -> Decided:
        places = self._card.places(request.questions[0]) or []
        mass = float(row[places].sum(dtype=np.float64))
        probabilities = tuple(float(row[place]) / mass for place in places)
        scores = QuestionScores(probabilities, mass if self._card.none else None, calibrated=self._card.calibrated)
        return Decided((scores,), self._tokens(request), 0)

    def _unsure(self, request: DecisionRequest, row: Floats, *, foreign: bool) -> Abstained:
        tokens = self._tokens(request)
        if foreign:
            return Abstained("the input is outside what the classifier was trained on", prompt_tokens=tokens)
        what = "none of the choices fits" if int(row.argmax()) >= len(self._card.labels) else "it is not sure"
        return Abstained(f"{what}: {row.max():.2f}", prompt_tokens=tokens)
