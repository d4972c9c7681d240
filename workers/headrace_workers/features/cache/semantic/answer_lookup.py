"""Verification of semantic hits: a verifier says whether the two questions ask the same."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from headrace_schemas import HeadraceError
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import CacheTier, Verified
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.cache.semantic.coalescing import Coalescing, still_without
from headrace_workers.features.cache.semantic.keyed_requests import (
    KeyedRequest,
    RequestKeys,
    Unanswered,
    hit_of,
    near_miss,
    semantic_hit,
)
from headrace_workers.features.cache.semantic.lookup_types import (
    Hit,
    LookupRequest,
    LookupResult,
    Miss,
    ModelOfVerifier,
    NearMiss,
    Unverified,
    VerifierSaid,
)
from headrace_workers.features.cache.semantic.nearest import Near, NearestQuestions
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Entry
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verifier


def _said(
    verifier: Verifier | ModelOfVerifier, asked: Sequence[Unanswered], hits: Mapping[int, Hit]
) -> dict[int, VerifierSaid | Unverified]:
    """Return what the verifier says of these hits, or said before; or that its model is still to be asked."""
    pairs = {lookup.position: _pair(lookup) for lookup in asked}
    if isinstance(verifier, ModelOfVerifier):
        return {
            lookup.position: lookup.request.asked.said
            or verifier.asked(hits[lookup.position].entry_id, pairs[lookup.position])
            for lookup in asked
        }
    verdicts = verifier.verify(list(pairs.values()))
    return {
        position: VerifierSaid(hits[position].entry_id, verifier.name, verifier.provider, verdict)
        for position, verdict in zip(pairs, verdicts, strict=True)
    }


def _pair(lookup: Unanswered) -> TextPair:
    assert lookup.near.found is not None  # noqa: S101 - it has a hit
    job = lookup.request.asked.job
    return TextPair(Relation.SAME_QUESTION, lookup.near.found.question, job.question, job.tenant)


def _judged(hit: Hit, said: VerifierSaid | Unverified) -> Hit | Unverified | str:
    if isinstance(said, Unverified):
        return said
    verdict = said.verdict
    if said.entry_id != hit.entry_id:
        return f"the verifier {said.model} was asked about another question that was nearest"
    if isinstance(verdict, HeadraceError):
        return f"the verifier {said.model} gave no verdict: {reason_of(verdict)}"[:MAX_SHORT_TEXT]
    if not verdict.holds:
        return f"the verifier {said.model} says that it asks for something else: {verdict.value:.2f}"
    yes = Verified(
        model=said.model, provider=said.provider, value=verdict.value, mass=verdict.mass, ms=verdict.ms
    )  # fmt: skip
    return replace(hit, verified=yes)


class AnswerLookup:
    """The answers of one ledger. Thread-safe. `version` names a model and its weights by its alias.

    The tiers are asked in the order exact, normalised, semantic. A scope in shadow has no semantic hits. Where there is
    a `verifier`, a semantic hit is served only if it confirms it, and nobody waits for an answer to other words. A
    request without a hit leads, or waits for the job that makes its answer.
    """

    def __init__(
        self,
        ledger: Ledger,
        version: Callable[[str], str],
        likeness: NearestQuestions | None = None,
        verifier: Verifier | ModelOfVerifier | None = None,
    ) -> None:
        self._answers = ledger.of(Answers)
        self._keys = RequestKeys(version, None if likeness is None else likeness.embedder)
        self._likeness = likeness
        self._verifier = verifier
        self._coalescing = Coalescing(self._answers, self._keys, likeness if verifier is None else None)

    def look_up(self, wanted: Sequence[LookupRequest]) -> list[LookupResult]:
        """Return the outcome of each request. A request that finds nothing is noted as the one that makes the answer.
        Raise Unavailable with the ledger.
        """
        requests = [self._keys.of(asked) for asked in wanted]
        same = self._answers.exact({request.key for request in requests})
        results: dict[int, LookupResult] = dict(
            _hits(CacheTier.EXACT, {index: (keyed, same.get(keyed.key)) for index, keyed in enumerate(requests)})
        )
        results |= self._normalised({index: keyed for index, keyed in enumerate(requests) if index not in results})
        unanswered = self._nearest({index: keyed for index, keyed in enumerate(requests) if index not in results})
        alive = self._alive(unanswered)
        unanswered, verified = self._verified(unanswered, _semantic(unanswered, alive))
        results |= verified
        results |= self._coalescing.outcomes(still_without(unanswered, results), same)
        nearly = {lookup.position: near_miss(lookup, alive) for lookup in unanswered}
        return [
            self._keys.placed(keyed, _explored(results[index], nearly.get(index)))
            for index, keyed in enumerate(requests)
        ]

    def outdate(self, documents: Mapping[int, Collection[tuple[int, str]]]) -> set[int]:
        """Outdate the answers, by their entries' ids, that do not rest on all of these documents (id and version).
        Return them. Raise Unavailable with the ledger.
        """
        return self._answers.outdate(documents, "its knowledge base has a newer document that it does not rest on")

    def _normalised(self, requests: Mapping[int, KeyedRequest]) -> dict[int, Hit]:
        """Return the hits among questions of the same normalised form, by position."""
        keys = {request.normalised for request in requests.values() if request.normalised is not None}
        known = self._answers.alike_but_for_form(keys) if keys else {}
        return _hits(
            CacheTier.NORMALISED,
            {position: (keyed, known.get(keyed.normalised or "")) for position, keyed in requests.items()},
        )

    def _nearest(self, requests: Mapping[int, KeyedRequest]) -> list[Unanswered]:
        """Return the requests with the nearest known question that asks the same, or why there is none."""
        asking = [request for request in requests.values() if request.question is not None]
        questions = [keyed.question for keyed in asking if keyed.question is not None]
        explored = {number for number, keyed in enumerate(asking) if keyed.asked.explores}
        near = iter(self._likeness.nearest(questions, explored) if questions and self._likeness is not None else ())
        return [
            Unanswered(position, keyed, Near(refused=keyed.refused) if keyed.question is None else next(near))
            for position, keyed in requests.items()
        ]

    def _alive(self, unanswered: Sequence[Unanswered]) -> dict[int, Entry]:
        """Return the living entries among the hits and near misses in memory."""
        ids = {lookup.near.entry_id for lookup in unanswered if lookup.near.entry_id is not None}
        ids |= {lookup.near.nearly.found.entry_id for lookup in unanswered if lookup.near.nearly is not None}
        return self._answers.living(ids) if ids else {}

    def _verified(
        self, unanswered: list[Unanswered], hits: Mapping[int, Hit]
    ) -> tuple[list[Unanswered], Mapping[int, Hit | Unverified]]:
        """Return the requests with what the verifier refused; and the hits that it confirmed and that still live, or
        those that it is to be asked about.
        """
        if self._verifier is None or not hits:
            return unanswered, hits
        asked = [lookup for lookup in unanswered if lookup.position in hits]
        said = {
            position: _judged(hits[position], answer) for position, answer in _said(self._verifier, asked, hits).items()
        }
        alive = self._alive(asked)  # it may have taken a while
        served = {
            position: verdict
            for position, verdict in said.items()
            if isinstance(verdict, Unverified) or (isinstance(verdict, Hit) and verdict.entry_id in alive)
        }
        return [_refused(lookup, said.get(lookup.position)) for lookup in unanswered], served


def _hits(tier: CacheTier, known: Mapping[int, tuple[KeyedRequest, Entry | None]]) -> dict[int, Hit]:
    """Return the hits of this tier among requests and what is known for them, by position."""
    hits = {position: hit_of(request, entry, tier) for position, (request, entry) in known.items()}
    return {position: hit for position, hit in hits.items() if hit is not None}


def _semantic(unanswered: Sequence[Unanswered], alive: Mapping[int, Entry]) -> dict[int, Hit]:
    """Return the hits among questions in other words, by position."""
    return {
        lookup.position: hit
        for lookup in unanswered
        if (hit := semantic_hit(lookup, lookup.near.found, alive)) is not None
    }


def _refused(lookup: Unanswered, said: Hit | Unverified | str | None) -> Unanswered:
    return lookup.refused(said) if isinstance(said, str) else lookup


def _explored(result: LookupResult, nearly: NearMiss | None) -> LookupResult:
    return replace(result, nearly=nearly) if nearly is not None and isinstance(result, Miss) else result
