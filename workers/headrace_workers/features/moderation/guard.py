"""Asks a guard: a model whose answer begins with `safe` or `unsafe`, such as Llama Guard, served by an engine here."""

from collections.abc import Sequence
from typing import Final

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import PromptTooLong
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, NoAnswer, with_part
from headrace_workers.features.moderation.segments import Part, stretches
from headrace_workers.models.generator import Generator, LabelRequest

CATEGORY: Final = "unsafe"
_SAID: Final = ("safe", "unsafe")
_PART: Final = 4_000  # characters that are shown at once: about 1,000 tokens
_OVERLAP: Final = 400
_LEAST_PART: Final = 3 * _OVERLAP  # of which no smaller ones are made
_LEAST: Final = 0.05  # of the probability, that both words need together: below it the guard said something else
_MOST: Final = 1.01  # a probability of 1 as a sum in half precision may give it


class GuardDetector:
    """A detector that finds what a guard calls unsafe; the score is the probability that its answer begins with
    `unsafe`. Raises what the engine cannot do, and NoAnswer where the model says neither word.
    """

    name = "guard"
    reads_words = False
    categories = frozenset({CATEGORY})

    def __init__(self, guard: Generator) -> None:
        self._guard = guard
        self.version = with_part(f"{guard.alias}/{guard.quantization}")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the findings of each text, one for each of its parts."""
        found: list[list[Detection]] = [[] for _ in texts]
        parts = [(at, part) for at, text in enumerate(texts) for part in stretches(len(text), _PART, _OVERLAP)]
        while parts:
            prompts = [(Message(role="user", content=texts[at][slice(*part)]),) for at, part in parts]
            # Behind `unsafe` the hazards follow.
            answers = self._guard.label_probabilities(
                [LabelRequest(messages, _SAID, whole=False) for messages in prompts]
            )
            halves: list[tuple[int, Part]] = []
            for (at, (start, end)), answer in zip(parts, answers, strict=True):
                if isinstance(answer, PromptTooLong) and end - start > _LEAST_PART:
                    # Of some scripts a character is several tokens.
                    smaller = stretches(end - start, (end - start + _OVERLAP) // 2, _OVERLAP)
                    halves += ((at, (start + first, start + last)) for first, last in smaller)
                elif isinstance(answer, HeadraceError):
                    raise answer
                else:
                    found[at].append(Detection(CATEGORY, self._unsafe(answer.masses), start, end))
            parts = halves
        return [sorted(own, key=lambda detection: detection.start)[:MAX_DETECTIONS] for own in found]

    def _unsafe(self, answer: tuple[float, ...]) -> float:
        both = sum(answer)
        if not all(0 <= share <= _MOST for share in answer) or both < _LEAST:  # NaN is neither
            raise NoAnswer(
                f"the guard {self._guard.alias} says neither safe nor unsafe: {both:.3f} of its probability falls on "
                "these words, for its template does not end where its answer begins, or it is no guard",
                passes=False,
            )
        return min(1.0, answer[1])
