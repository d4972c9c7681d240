"""An answer against what it was given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_workers.groundedness.doubts import doubts
from headrace_workers.groundedness.evidence import embedded, units
from headrace_workers.groundedness.reading import read
from headrace_workers.groundedness.sentences import Sentence, sentences
from headrace_workers.groundedness.support import support
from headrace_workers.ports import Embedder

MOST_SENTENCES: Final = 200  # of one answer
_ENOUGH: Final = 0.5


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence of the answer, from `start` to `stop` (characters), how likely it is supported, and why not."""

    start: int
    stop: int
    probability: float
    reason: str


@dataclass(frozen=True, slots=True)
class Groundedness:
    """Of an answer's `sentences` that say something, those that are not supported. `beyond` were too many to read."""

    sentences: int
    unsupported: tuple[Unsupported, ...]
    beyond: int = 0

    @property
    def share(self) -> float:
        """What part of its sentences is supported; of an answer that says nothing, all."""
        return (self.sentences - len(self.unsupported)) / self.sentences if self.sentences else 1.0


def ground(answer: str, given: Sequence[str], embedder: Embedder) -> Groundedness:
    """Whether each sentence of the answer stands in these texts, in whatever words.

    Questions, and sentences of small words alone, say nothing. Relations and inferences are not checked: two names that
    change places, or a sum of two numbers, pass or fail by chance.
    """
    claims = [each for each in sentences(answer) if _says_something(each)]
    read_, beyond = claims[:MOST_SENTENCES], len(claims[MOST_SENTENCES:])
    if not read_:
        return Groundedness(0, ())
    texts = [claim.text for claim in read_]
    found = units(given, texts)
    if not found.texts:
        nothing = tuple(Unsupported(claim.start, claim.stop, 0.0, "nothing was given") for claim in read_)
        return Groundedness(len(read_), nothing, beyond)
    judged = [support(each) for each in doubts(texts, embedded(found, embedder), embedder)]
    return Groundedness(
        len(read_),
        tuple(
            Unsupported(claim.start, claim.stop, each.probability, each.reason)
            for claim, each in zip(read_, judged, strict=True)
            if each.probability < _ENOUGH
        ),
        beyond,
    )


def _says_something(sentence: Sentence) -> bool:
    said = read(sentence.text)
    return not sentence.text.endswith("?") and bool(said.names or said.first or said.words or said.numbers)
