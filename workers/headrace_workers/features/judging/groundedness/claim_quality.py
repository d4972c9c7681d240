"""How well a verifier, or the rules, tell supported sentences from others, on labelled ones."""

from collections.abc import Callable, Sequence

from headrace_schemas import HeadraceError
from headrace_workers.features.cache.measuring import LabelledPair, VerifierQuality, measure_pairs
from headrace_workers.features.judging.groundedness.doubts import doubts, support
from headrace_workers.features.judging.groundedness.evidence import embedded, units
from headrace_workers.features.judging.groundedness.ground import ground, pairs_of
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier


class Rules:
    """The rules of `grounded` in the place of a verifier, to be measured as one."""

    name = "the rules"
    provider = None

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        """Return the probability of each pair that the rules give it."""
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: TextPair) -> Verdict:
        evidence = embedded(units([pair.first], [pair.second]), self._embedder)
        (found,) = doubts([pair.second], evidence, self._embedder)
        return Verdict(support(found).probability, None, 0.0)


def measure_claims(
    verifier: Verifier | None,
    claims: Sequence[LabelledPair],
    embedder: Embedder,
    advance: Callable[[int], None] = lambda _: None,
) -> VerifierQuality:
    """Ask the verifier about each sentence with what is nearest to it, as workers do; without one, ask the rules. Raise
    ValueError unless there are sentences of both labels.
    """
    pairs = [TextPair(Relation.SUPPORTED, claim.first, claim.second) for claim in claims]
    if verifier is not None:
        pairs = [_near(pair, embedder) for pair in pairs]
    numbers: dict[str, int] = {}
    clusters = [numbers.setdefault(claim.first, len(numbers)) for claim in claims]
    return measure_pairs(verifier or Rules(embedder), pairs, [claim.holds for claim in claims], clusters, advance)


def _near(pair: TextPair, embedder: Embedder) -> TextPair:
    pairs = pairs_of(ground(pair.second, [pair.first], embedder, most_claims=1), "")
    return pair if not pairs else TextPair(pair.relation, pairs[0].first, pair.second)
