"""How likely each label was where a provider wrote its answer, from the probabilities of the tokens there. Pure."""

import json
import math
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from headrace_workers.features.generation.generator import TokenChoices

_ANSWER: Final = re.compile(r'"(\d{1,3})"\s*:\s*\{\s*"answer"\s*:\s*"')
_UNCLEAR: Final = 0.01  # probability of tokens with which several labels may begin: above it, no label's is known


def written_labels(tokens: Sequence[TokenChoices], labels: Sequence[Sequence[str]]) -> list[tuple[float, ...] | None]:
    """Return the probability of each label of each question, of answers in the format of `ask_in_words`; None for a
    question whose labels cannot be told apart by one token, or whose answer is not found.
    """
    text, ends = "".join(token.text for token in tokens), list(accumulate(len(token.text) for token in tokens))
    begins = {int(found[1]): found.end() for found in _ANSWER.finditer(text)}
    masses: list[tuple[float, ...] | None] = []
    for number, theirs in enumerate(labels, 1):
        begin = begins.get(number, len(text))
        place = next((index for index, end in enumerate(ends) if end > begin), None)
        masses.append(
            None if place is None else _masses(tokens[place], begin - ends[place] + len(tokens[place].text), theirs)
        )
    return masses


def _masses(token: TokenChoices, before: int, labels: Sequence[str]) -> tuple[float, ...] | None:
    """Return the masses by a token, of which so many characters stand before the label."""
    written = [f'{json.dumps(label, ensure_ascii=False)[1:-1]}"' for label in labels]
    masses, unclear = [0.0] * len(labels), 0.0
    for text, probability in token.likely.items():
        label = text[before:]
        if not label or text[:before] != token.text[:before]:
            continue
        fitting = [place for place, whole in enumerate(written) if whole.startswith(label) or label.startswith(whole)]
        if len(fitting) == 1:
            masses[fitting[0]] += probability
        elif fitting:
            unclear += probability
    return None if unclear > _UNCLEAR or not math.fsum(masses) else tuple(masses)
