"""The interface of verifiers: models that say whether a relation holds between two texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from headrace_schemas import HeadraceError, Usage


class Relation(StrEnum):
    """Question that a verifier answers about two texts."""

    SAME_QUESTION = "same question"  # a right answer to the first question is a right answer to the second
    SAME_ANSWER = "same answer"  # both texts say the same in answer to one question
    SUPPORTED = "supported"  # the first text says what the second claims


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts and what is asked about them. `about` is the question that both answer, for `SAME_ANSWER`. A provider
    sees the texts of no tenant that does not allow it, and no texts without a `tenant`.
    """

    relation: Relation
    first: str
    second: str
    tenant: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's answer about a pair: the probability of yes, and how much of the probability fell on yes and no.

    `mass` is None where the model gives no probabilities: `value` is then 1 for a written yes, and 0 for a no. `ms` is
    how long the call took that this pair was part of. `usage` are the tokens of the pair, of a model that says so.
    """

    value: float
    mass: float | None
    ms: float
    usage: Usage | None = None

    @property
    def holds(self) -> bool:
        """Return True if yes is more probable than no."""
        return self.value > 0.5


class Verifier(Protocol):
    """A model that says whether a relation holds between two texts. Thread-safe; built after any fork."""

    @property
    def name(self) -> str:
        """Return its name in receipts and logs."""

    @property
    def provider(self) -> str | None:
        """Return whose machine reads the texts; None for a machine of the deployment."""

    def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        """Return a verdict for each pair, or why there is none; the i-th item belongs to the i-th pair.

        Raise nothing: a verifier that fails has said neither yes nor no.
        """
