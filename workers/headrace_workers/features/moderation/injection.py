"""Prompt injection: text that would give a model other instructions than its operator's."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part
from headrace_workers.features.moderation.head import found_in_parts
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.heads import sigmoid

CATEGORY: Final = "prompt_injection"
_SCORE: Final = 1.0
BUCKETS: Final = 1 << 17  # that words, pairs and parts of words are hashed to
_PART: Final = 4  # letters of a part of a word, with its edges
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[<>{}\[\]|#:]+")  # marks of templates and chat formats count, too


class Place(Protocol):
    """A span of a text that is suspicious."""

    @property
    def start(self) -> int:
        """Its first character."""

    @property
    def end(self) -> int:
        """The index after its last character."""


class InjectionDetector:
    """A detector of prompt injection in what users say, by the patterns for passages. Its score is always 1."""

    name = "injection"
    reads_words = True
    categories = frozenset({CATEGORY})

    def __init__(self, find: Callable[[str], Iterable[Place]]) -> None:
        self._find = find
        self.version = with_part("patterns")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the suspicious spans in each text."""
        return [
            [Detection(CATEGORY, _SCORE, place.start, place.end) for place in self._find(text)][:MAX_DETECTIONS]
            for text in texts
        ]


@dataclass(frozen=True)
class InjectionHead:
    """A logistic regression. The logit of a text adds the weights of its buckets, divided by the root of their number,
    and where the embedder is there the product of its vector and `vector`.
    """

    words: NDArray[np.float32]  # (BUCKETS,)
    vector: NDArray[np.float32]  # (dimensions,)
    bias: float  # of both together
    bias_of_words: float  # of words alone
    embedder: str

    @property
    def version(self) -> str:
        """A digest of what it says."""
        numbers = np.array([self.bias, self.bias_of_words])
        parts = [self.embedder.encode(), self.words.tobytes(), self.vector.tobytes(), numbers.tobytes()]
        return sha256(b"".join(parts)).hexdigest()[:12]

    def scores(self, embedder: Embedder | None, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text is an order to the model, (texts, 1)."""
        logits = self.of_words(texts)
        if embedder is None:
            logits += self.bias_of_words
        else:
            logits += embedder.embed(texts).astype(np.float64) @ self.vector + self.bias
        return sigmoid(logits)[:, None]

    def of_words(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return what the words add to the logit of each text."""
        found = [buckets(text) for text in texts]
        return np.array([self.words[own].sum() / max(1, len(own)) ** 0.5 for own in found], dtype=np.float64)


def buckets(text: str) -> NDArray[np.int64]:
    """Return the buckets of a text's words, pairs of neighbouring words and parts of words, ascending, each once."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    grams = {*words, *map(" ".join, pairwise(words))}
    for edged in (f"^{word}$" for word in set(words) if len(word) >= _PART):
        grams |= {f"~{edged[at : at + _PART]}" for at in range(len(edged) - _PART + 1)}
    return np.unique(np.array([zlib.crc32(gram.encode()) % BUCKETS for gram in grams], dtype=np.int64))


class InjectionHeadDetector:
    """Finds orders to the model by the head that ships. The score is its probability for a part of the text."""

    name = "injection_head"
    reads_words = True
    categories = frozenset({CATEGORY})

    def __init__(self, head: InjectionHead, embedder: Embedder | None) -> None:
        """Look by `head`. Without an embedder, or with another one than it was trained over, its words look alone."""
        fits = embedder is not None and embedder.id == head.embedder
        self._score = partial(head.scores, embedder if fits else None)
        self.version = with_part(head.version if fits else f"{head.version}/words")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the parts of each text that the head is sure of, and in any case the one that it is surest of."""
        return found_in_parts(texts, (CATEGORY,), self._score)


@cache
def injection_head() -> InjectionHead:
    """Return the head that ships: JSON, written by `make injection-head`."""
    said = json.loads(files("headrace_workers.features.moderation").joinpath("injection_head.json").read_bytes())
    steps = np.frombuffer(base64.b64decode(said["words"]), dtype=np.int8)
    return InjectionHead(
        words=steps.astype(np.float32) * np.float32(said["step"]),
        vector=np.array(said["vector"], dtype=np.float32),
        bias=said["bias"],
        bias_of_words=said["bias_of_words"],
        embedder=said["embedder"],
    )


def packed(head: InjectionHead) -> dict[str, object]:
    """Return a head as it stands in the file: the words' weights as steps of 8 bits, and other numbers of nine digits,
    which are 32-bit floats bit for bit.
    """
    step = float(f"{np.abs(head.words).max() / 127:.9g}")
    steps = np.rint(head.words / step).astype(np.int8)
    return {
        "embedder": head.embedder,
        "bias": head.bias,
        "bias_of_words": head.bias_of_words,
        "step": step,
        "words": base64.b64encode(steps.tobytes()).decode(),
        "vector": [float(f"{number:.9g}") for number in head.vector.tolist()],
    }
