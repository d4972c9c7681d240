"""The subject of a judgement: an output, with what it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headrace_schemas import Criterion, Score


@dataclass(frozen=True, slots=True)
class Subject:
    """An output with all that a criterion may look at. `output` is None when moderation blocked it.

    `embedded` are scores that were found before, by the places of their criteria: they need an embedder, which no judge
    has. `before` are the scores that other models gave, and `elsewhere` the models that answer after this one. `job_id`
    decides what is drawn to be judged. Without a `tenant` no provider is asked.
    """

    output: str | None
    criteria: tuple[Criterion, ...]
    question: str = ""
    reference: str | None = None
    context: str | None = None
    embedded: Mapping[int, Score] = field(default_factory=dict)
    before: Mapping[int, Score] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    other: str | None = None
    job_id: str = ""
    tenant: str | None = None

    def seen_by(self, criterion: Criterion) -> "Subject":
        """Return the subject as a criterion sees it: with the output that it brings, if it does."""
        return self if criterion.output is None else replace(self, output=criterion.output)

    @property
    def compared(self) -> str | None:
        """The text that the output is compared with: the other output, else the reference."""
        return self.reference if self.other is None else self.other

    def expected_by(self, criterion: Criterion) -> str | None:
        """Return the reference of a criterion: its own, else the job's."""
        own: str | None = getattr(criterion, "reference", None)
        return self.reference if own is None else own
