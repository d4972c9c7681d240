"""What a verifier's verdicts make of an answer's groundedness. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from headrace_schemas import HeadraceError
from headrace_workers.core.ports import Relation, TextPair, Verdict
from headrace_workers.features.judging.groundedness.ground import Groundedness, Unsupported

_NO: Final = "the verifier says that what is nearest to it does not say so"


def pairs_of(found: Groundedness, tenant: str) -> list[TextPair]:
    """Return what a verifier is asked: whether the nearest evidence says what each sentence claims."""
    return [TextPair(Relation.SUPPORTED, claim.evidence, claim.text, tenant) for claim in found.claims]


def verified(found: Groundedness, verdicts: Sequence[Verdict | HeadraceError]) -> Groundedness:
    """Return the groundedness by these verdicts, one a claim. Where there is none the rule stands, and so does a wrong
    citation.
    """
    by_rule = {(each.start, each.stop): each for each in found.unsupported}
    for claim, verdict in zip(found.claims, verdicts, strict=True):
        place = claim.start, claim.stop
        if isinstance(verdict, HeadraceError) or (place in by_rule and by_rule[place].cites):
            continue
        by_rule.pop(place, None)
        if not verdict.holds:
            by_rule[place] = Unsupported(*place, verdict.value, _NO, checked=True)
    return replace(found, unsupported=tuple(by_rule[place] for place in sorted(by_rule)), claims=())
