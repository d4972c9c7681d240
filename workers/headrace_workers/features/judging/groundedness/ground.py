"""An answer against what it was given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_workers.core.ports import Embedder
from headrace_workers.features.judging.groundedness.doubts import Doubts, doubts
from headrace_workers.features.judging.groundedness.evidence import Evidence, embedded, units
from headrace_workers.features.judging.groundedness.sentence_reading import read
from headrace_workers.features.judging.groundedness.sentences import Sentence, sentences
from headrace_workers.features.judging.groundedness.support import Support, support
from headrace_workers.features.knowledge.citations import cited

MOST_SENTENCES: Final = 200  # of one answer
_ENOUGH: Final = 0.5
_AS_NEAR: Final = 1e-3  # cosine: what is computed in another group differs in the last digits


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence of the answer, from `start` to `stop` (characters), how likely it is supported, and why not.

    One that is not `checked` is a hint for people: the score does not count it.
    """

    start: int
    stop: int
    probability: float
    reason: str
    checked: bool


@dataclass(frozen=True, slots=True)
class Groundedness:
    """The unsupported sentences among an answer's `sentences` that say something. `beyond` more were too many to
    read."""

    sentences: int
    unsupported: tuple[Unsupported, ...]
    beyond: int = 0

    @property
    def share(self) -> float:
        """The share of its sentences that lack nothing; 1 for an answer that says nothing."""
        counted = sum(each.checked for each in self.unsupported)
        return (self.sentences - counted) / self.sentences if self.sentences else 1.0


def ground(answer: str, given: Sequence[str], embedder: Embedder, *, numbered: bool = False) -> Groundedness:
    """Return the groundedness of each sentence of the answer in these texts, in whatever words.

    Where they are `numbered`, from 1, a sentence that cites some must be supported by one of those.

    Questions, and sentences of small words alone, say nothing. Checked are numbers, units and names that are nowhere in
    the texts, sentences of another matter, and citations. Denials, swapped roles and inventions within the topic are
    not: what speaks for one of them is a hint.
    """
    claims = [each for each in sentences(answer) if _says_something(each)]
    read_, beyond = claims[:MOST_SENTENCES], len(claims[MOST_SENTENCES:])
    if not read_:
        return Groundedness(0, ())
    texts = [claim.text for claim in read_]
    found = units(given, texts)
    if not found.texts:
        nothing = tuple(Unsupported(claim.start, claim.stop, 0.0, "nothing was given", checked=True) for claim in read_)
        return Groundedness(len(read_), nothing, beyond)
    evidence = embedded(found, embedder)
    doubts_of = doubts(texts, evidence, embedder)
    judged = [support(each) for each in doubts_of]
    if numbered:
        for place, claim in enumerate(read_):
            if judged[place].probability >= _ENOUGH:
                sentence = answer[claim.start : claim.stop]
                judged[place] = (
                    _cited(claim.text, sentence, doubts_of[place], given, evidence, embedder) or judged[place]
                )
    return Groundedness(
        len(read_),
        tuple(
            Unsupported(claim.start, claim.stop, each.probability, each.reason, each.checked)
            for claim, each in zip(read_, judged, strict=True)
            if each.checked or each.probability < _ENOUGH
        ),
        beyond,
    )


def _cited(
    claim: str, sentence: str, known: Doubts, given: Sequence[str], evidence: Evidence, embedder: Embedder
) -> Support | None:
    """Return the doubts about a supported sentence by its citations, or None.

    It cites what does not say so where something else says it better, and what it cites would not be enough.
    """
    cites = cited(sentence, len(given))
    if cites.unknown:
        return Support(0.0, f"it cites a passage that does not exist: {_listed(cites.unknown)}", checked=True)
    if not cites.numbers:
        return None
    part = evidence.within({each.text for number in cites.numbers for each in sentences(given[number - 1])})
    words = f"the passage that it cites does not support it: {_listed(cites.numbers)}"
    if not part.units.texts:
        return Support(0.0, words, checked=True)
    (found,) = doubts([claim], part, embedder)
    alone = support(found)
    if alone.probability >= _ENOUGH or found.nearness > known.nearness - _AS_NEAR:
        return None
    return Support(alone.probability, words, checked=True)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(f"[{number}]" for number in numbers)


def _says_something(sentence: Sentence) -> bool:
    reading = read(sentence.text)
    return not sentence.text.endswith("?") and bool(reading.names or reading.first or reading.words or reading.numbers)
