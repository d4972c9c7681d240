"""Verification of semantic hits: a verifier says whether the two questions ask the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace_schemas import HeadraceError
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import Verified
from headrace_workers.core.ports import Relation, TextPair, Verifier
from headrace_workers.features.cache.semantic.found import Hit, ModelOfVerifier, Unverified, VerifierSaid
from headrace_workers.features.cache.semantic.keyed_requests import Unanswered


class HitVerification:
    """The verifier of one deployment: one that answers here, or a model that is asked in a stage of its own."""

    def __init__(self, verifier: Verifier | ModelOfVerifier) -> None:
        self._verifier = verifier

    def of(self, asked: Sequence[Unanswered], hits: Mapping[int, Hit]) -> dict[int, Hit | Unverified | str]:
        """Return, by place, the hits that the verifier confirmed, those that it is still to be asked about, and for the
        others why they are refused.
        """
        said = self._said(asked, hits)
        return {each.place: _judged(hits[each.place], said[each.place]) for each in asked}

    def _said(self, asked: Sequence[Unanswered], hits: Mapping[int, Hit]) -> dict[int, VerifierSaid | Unverified]:
        """Return what the verifier says of these hits, or said before; or that its model is still to be asked."""
        verifier, pairs = self._verifier, {each.place: _pair(each) for each in asked}
        if isinstance(verifier, ModelOfVerifier):
            return {
                each.place: each.request.asked.said or verifier.asked(hits[each.place].entry_id, pairs[each.place])
                for each in asked
            }
        verdicts = verifier.verify(list(pairs.values()))
        return {
            place: VerifierSaid(hits[place].entry_id, verifier.name, verifier.provider, verdict)
            for place, verdict in zip(pairs, verdicts, strict=True)
        }


def _pair(each: Unanswered) -> TextPair:
    assert each.near.found is not None  # noqa: S101 - it has a hit
    job = each.request.asked.job
    return TextPair(Relation.SAME_QUESTION, each.near.found.question, job.question, job.tenant)


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
