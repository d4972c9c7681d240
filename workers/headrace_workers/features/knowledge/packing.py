"""Selection of passages for a prompt: the relevant ones, best first, as many as the budget holds. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headrace_workers.features.knowledge.chunking import Chunk


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found for a question. `relevance` is whatever the floor is measured in: higher is better."""

    chunk: Chunk
    relevance: float


@dataclass(frozen=True, slots=True)
class Packed:
    """The passages for the prompt, the best first; passage [n] is the n-th.

    `relevant` of those found cleared the floor. Where it is 0 the job abstains or is answered without; where it is not
    and there are no passages, the budget was too small for any.
    """

    passages: tuple[Passage, ...]
    relevant: int
    tokens: int

    @property
    def nothing_relevant(self) -> bool:
        """Return True if nothing cleared the floor."""
        return self.relevant == 0


def pack(passages: Iterable[Passage], budget: int, floor: float, cost: Callable[[Passage], int]) -> Packed:
    """Take the passages whose relevance is at least `floor`, in their order, while they fit into `budget` tokens.

    They come as the search ranked them, the best first: that knows more than the relevance alone. `cost` is what a
    passage takes of the budget, its marks included. One that does not fit is left out, and a smaller one behind it may
    still go in. A relevance that is no number clears no floor.
    """
    relevant = [each for each in passages if each.relevance >= floor]
    taken: list[Passage] = []
    tokens = 0
    for passage in relevant:
        taking = cost(passage)
        if tokens + taking <= budget:
            taken.append(passage)
            tokens += taking
    return Packed(tuple(taken), len(relevant), tokens)
