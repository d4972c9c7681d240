"""What is judged."""

from dataclasses import dataclass

from headrace_schemas import Criterion, Score


@dataclass(frozen=True, slots=True)
class Subject:
    """An output with all that a criterion may look at. `output` is None when moderation blocked it.

    `grounded` was found before: it needs an embedder, which no judge has.
    """

    output: str | None
    criteria: tuple[Criterion, ...]
    question: str = ""
    reference: str | None = None
    context: str | None = None
    grounded: Score | None = None
