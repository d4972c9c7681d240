"""What is judged."""

from dataclasses import dataclass

from headrace_schemas import Criterion, Score


@dataclass(frozen=True, slots=True)
class Subject:
    """An output with all that a criterion may look at. `output` is None when moderation blocked it.

    `grounded` was found before: it needs an embedder, which no judge has. `job_id` decides what is drawn to be judged.
    """

    output: str | None
    criteria: tuple[Criterion, ...]
    question: str = ""
    reference: str | None = None
    context: str | None = None
    grounded: Score | None = None
    other: str | None = None
    job_id: str = ""

    @property
    def compared(self) -> str | None:
        """What the output is compared with, where two are: the other one, else the reference."""
        return self.reference if self.other is None else self.other
