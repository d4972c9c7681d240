"""An answer against what it was given, by the rules or by a verifier's verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from headrace_schemas import HeadraceError
from headrace_workers.features.judging.groundedness.doubts import Doubts, Support, doubts, support
from headrace_workers.features.judging.groundedness.evidence import Evidence, Floats, Units, embedded, units
from headrace_workers.features.judging.groundedness.sentences import Sentence, read, sentences
from headrace_workers.features.knowledge.grounding import cited
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict

MOST_SENTENCES: Final = 200  # of one answer
_ENOUGH: Final = 0.5
_NEAREST: Final = 3  # sentences of the evidence that a verifier reads, with those before them
_MOST_OF_EVIDENCE: Final = 2_000  # characters that it reads, for one sentence of the answer
_MOST_OF_CLAIM: Final = 1_000
_AS_NEAR: Final = 1e-3  # cosine: what is computed in another group differs in the last digits


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence of the answer, from `start` to `stop` (characters), how likely it is supported, and why not. One that
    is not `checked` is a hint; `cites` says that its citation is wrong.
    """

    start: int
    stop: int
    probability: float
    reason: str
    checked: bool
    cites: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the answer, from `start` to `stop`, with the sentences of the evidence that are nearest to it."""

    start: int
    stop: int
    text: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Groundedness:
    """The unsupported sentences among an answer's `sentences` that say something. `beyond` more were too many to
    read. `claims` are those that a verifier may be asked about.
    """

    sentences: int
    unsupported: tuple[Unsupported, ...]
    beyond: int = 0
    claims: tuple[Claim, ...] = ()

    @property
    def share(self) -> float:
        """The share of its sentences that lack nothing; 1 for an answer that says nothing."""
        counted = sum(unsupported.checked for unsupported in self.unsupported)
        return (self.sentences - counted) / self.sentences if self.sentences else 1.0


def ground(
    answer: str, given: Sequence[str], embedder: Embedder, *, numbered: bool = False, most_claims: int = 0
) -> Groundedness:
    """Return the groundedness of each sentence of the answer in these texts, and the first `most_claims` with what is
    nearest to them. In `numbered` texts (from 1), a sentence must be supported by those that it cites.
    """
    claims = [item for item in sentences(answer) if _says_something(item)]
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
    judged = [support(doubt) for doubt in doubts_of]
    wrongly_cited: set[int] = set()
    if numbered:
        for place, claim in enumerate(read_):
            if judged[place].probability >= _ENOUGH:
                sentence = answer[claim.start : claim.stop]
                cited_wrongly = _cited(claim.text, sentence, doubts_of[place], given, evidence, embedder)
                if cited_wrongly is not None:
                    judged[place] = cited_wrongly
                    wrongly_cited.add(place)
    return Groundedness(
        len(read_),
        tuple(
            Unsupported(
                claim.start, claim.stop, item.probability, item.reason, item.checked, cites=place in wrongly_cited
            )
            for place, (claim, item) in enumerate(zip(read_, judged, strict=True))
            if item.checked or item.probability < _ENOUGH
        ),
        beyond,
        _claims(read_[:most_claims], evidence, embedder) if most_claims else (),
    )


def groundedness_in(carried: Mapping[str, Any]) -> Groundedness:
    """Return the groundedness that a step carries as JSON."""
    return Groundedness(
        carried["sentences"],
        tuple(Unsupported(**item) for item in carried["unsupported"]),
        carried["beyond"],
        tuple(Claim(**claim) for claim in carried["claims"]),
    )


def _claims(claims: Sequence[Sentence], evidence: Evidence, embedder: Embedder) -> tuple[Claim, ...]:
    """Return these sentences with the nearest sentences of the evidence and those before them, in their order. Very
    long ones are left out.
    """
    nearby = embedder.embed([claim.text for claim in claims]) @ evidence.vectors.T
    found = [
        Claim(claim.start, claim.stop, claim.text, _nearest(row, evidence.units))
        for claim, row in zip(claims, nearby, strict=True)
        if len(claim.text) <= _MOST_OF_CLAIM
    ]
    return tuple(claim for claim in found if claim.evidence)


def _nearest(row: Floats, found: Units) -> str:
    places = list(dict.fromkeys(found.of[place] for place in np.argsort(-row, kind="stable")))[:_NEAREST]
    chosen: set[int] = set()
    room = _MOST_OF_EVIDENCE
    for place in [*places, *(place - 1 for place in places if place)]:  # the sentence before may say who `it` is
        if place not in chosen and len(found.whole[place]) <= room:
            chosen.add(place)
            room -= len(found.whole[place])
    return " ".join(found.whole[place] for place in sorted(chosen))


def _cited(
    claim: str, sentence: str, known: Doubts, given: Sequence[str], evidence: Evidence, embedder: Embedder
) -> Support | None:
    """Return the doubts about a supported sentence by its citations, or None."""
    cites = cited(sentence, len(given))
    if cites.unknown:
        return Support(0.0, f"it cites a passage that does not exist: {_listed(cites.unknown)}", checked=True)
    if not cites.numbers:
        return None
    part = evidence.within({item.text for number in cites.numbers for item in sentences(given[number - 1])})
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


_NO: Final = "the verifier says that what is nearest to it does not say so"


def pairs_of(found: Groundedness, tenant: str) -> list[TextPair]:
    """Return what a verifier is asked: whether the nearest evidence says what each sentence claims."""
    return [TextPair(Relation.SUPPORTED, claim.evidence, claim.text, tenant) for claim in found.claims]


def verified(found: Groundedness, verdicts: Sequence[Verdict | HeadraceError]) -> Groundedness:
    """Return the groundedness by these verdicts, one a claim. Where there is none the rule stands, and so does a wrong
    citation.
    """
    by_rule = {(unsupported.start, unsupported.stop): unsupported for unsupported in found.unsupported}
    for claim, verdict in zip(found.claims, verdicts, strict=True):
        place = claim.start, claim.stop
        if isinstance(verdict, HeadraceError) or (place in by_rule and by_rule[place].cites):
            continue
        by_rule.pop(place, None)
        if not verdict.holds:
            by_rule[place] = Unsupported(*place, verdict.value, _NO, checked=True)
    return replace(found, unsupported=tuple(by_rule[place] for place in sorted(by_rule)), claims=())
