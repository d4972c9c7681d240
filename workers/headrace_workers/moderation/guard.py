"""Asks a guard: a model that says `safe` or `unsafe` of a text first, as Llama Guard does, served by an engine here."""

from collections.abc import Sequence
from typing import Final

from headrace_schemas import HeadraceError, Message
from headrace_workers.moderation.limits import MAX_DETECTIONS
from headrace_workers.moderation.segments import stretches
from headrace_workers.moderation.versions import with_part
from headrace_workers.ports import Detection, Generator

CATEGORY: Final = "unsafe"
_SAID: Final = ("safe", "unsafe")
_PART: Final = 4_000  # characters that are shown at once: about 1,000 tokens
_OVERLAP: Final = 400


class GuardDetector:
    """Finds what the guard calls unsafe. The span is the text, or a part of a long one; the score is the probability
    that the guard's answer begins with `unsafe`. The text is shown as a user's turn, in the guard's own template.

    It raises what the model's engine cannot do: the text is then held. As thread-safe as the engine.
    """

    name = "guard"
    reads_words = False
    categories = frozenset({CATEGORY})

    def __init__(self, guard: Generator) -> None:
        self._guard = guard
        self.version = with_part(f"{guard.alias}/{guard.quantization}")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """The score of each part of each text."""
        parts = [(at, part) for at, text in enumerate(texts) for part in stretches(len(text), _PART, _OVERLAP)]
        prompts = [(Message(role="user", content=texts[at][slice(*part)]),) for at, part in parts]
        answers = self._guard.choice_probabilities(prompts, _SAID) if prompts else []
        found: list[list[Detection]] = [[] for _ in texts]
        for (at, part), answer in zip(parts, answers, strict=True):
            if isinstance(answer, HeadraceError):
                raise answer
            found[at].append(Detection(CATEGORY, min(1.0, answer[1]), *part))
        return [each[:MAX_DETECTIONS] for each in found]
