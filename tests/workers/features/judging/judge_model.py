"""A judge model for tests: it answers what it is told to, and remembers what it was asked."""

from collections.abc import Callable, Sequence

from headrace_schemas import HeadraceError, Message
from headrace_workers.models.generator import Completion, LabelRequest, LabelScores, Request

Probabilities = tuple[float, ...] | HeadraceError
Prompt = tuple[Message, ...]


class JudgeModel:
    """A Generator that judges by a function from prompt and choices to probabilities."""

    def __init__(
        self,
        answer: Callable[[Prompt, Sequence[str]], Probabilities],
        *,
        alias: str = "judge",
        context_length: int = 2048,
    ) -> None:
        self.alias = alias
        self.quantization = "int8"
        self.context_length = context_length
        self.calls: list[tuple[list[Prompt], tuple[str, ...]]] = []
        self._answer = answer

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        raise AssertionError("a judge does not generate")

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        (labels,) = {request.labels for request in requests}
        self.calls.append(([request.messages for request in requests], labels))
        found = [self._answer(request.messages, labels) for request in requests]
        return [LabelScores(row, 0, 0) if isinstance(row, tuple) else row for row in found]


def uniform(prompt: Prompt, choices: Sequence[str]) -> Probabilities:
    return (0.5 / len(choices),) * len(choices)
