"""What is judged."""

from dataclasses import dataclass

from headrace_schemas import Criterion


@dataclass(frozen=True, slots=True)
class Subject:
    """An output with all that a criterion may look at. `output` is None when moderation blocked it."""

    output: str | None
    criteria: tuple[Criterion, ...]
    question: str = ""
    reference: str | None = None
    context: str | None = None
