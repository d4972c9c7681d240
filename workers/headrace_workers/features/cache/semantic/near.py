"""Requests to the semantic look-up, and their results."""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol

from headrace_workers.features.cache.semantic.question_indexes import Neighbour, Question
from headrace_workers.features.cache.store.entry_changes import Change


class Nearly(NamedTuple):
    """A known question that the threshold alone kept from being the same (`below`), or a guard did (`refused`), or that
    is the same in a scope that is in shadow (`shadow`).
    """

    kind: Literal["below", "refused", "shadow"]
    found: Neighbour
    guard: str | None = None  # of what guards refused: the one that alone did, or `several`


class Near(NamedTuple):
    """The result of a semantic look-up: the question's vector, and the nearest entry that asks the same, or why none
    does.
    """

    vector: bytes | None = None
    found: Neighbour | None = None
    similarity: float | None = None  # to that, or to the nearest that asks for something else
    threshold: float | None = None  # from which on it may be given
    refused: str | None = None
    nearly: Nearly | None = None

    @property
    def entry_id(self) -> int | None:
        """The entry that asks the same."""
        return None if self.found is None else self.found.entry_id


class Vectored(NamedTuple):
    """A question with its vector."""

    question: Question
    vector: bytes


class Behind(NamedTuple):
    """An earlier question of the same group that asks the same."""

    place: int
    similarity: float


class Likeness(Protocol):
    """Finds the nearest known questions. Thread-safe."""

    @property
    def embedder(self) -> str:
        """The id of what makes the vectors."""

    @property
    def followed(self) -> int:
        """The number of the last change of the ledger that is known here."""

    def nearest(self, questions: Sequence[Question], explored: Collection[int] = ()) -> list[Near]:
        """For each question, what it came to; of those at the places `explored`, also what it nearly was."""

    def lately(self, questions: Sequence[Vectored], changes: Sequence[Change]) -> list[list[Neighbour]]:
        """Return for each question the entries that ask the same, oldest first: entries whose answers are being made,
        and entries in these changes.
        """

    def behind(self, questions: Sequence[Vectored]) -> list[Behind | None]:
        """Return for each question an earlier one among these that asks the same; None if there is no earlier one."""
