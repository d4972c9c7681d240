"""The language of an output."""

from functools import cache
from typing import Any, Final

from headrace_workers.features.judging.unjudged import NotCovered, Unsure

_ODDS: Final = 4.0  # how much likelier the language must be than the next, or that than it, before anything is said
_MOST_READ: Final = 2_000  # characters: of long texts that say the same again the model becomes less sure


def language(output: str, wanted: str) -> float:
    """Return 1.0 when the output is in that language (ISO 639), else 0.0, by py3langid's model of bytes.

    It is held against the languages that have a code of two letters: their dialects would make it less sure of them.
    Raises NotCovered for a language that the model does not know, and Unsure where two are nearly as likely: the text
    is too short, mixed, or in no language.
    """
    model = _model()
    if wanted not in model.labels:
        raise NotCovered(f"the language {wanted} is not known here: it may be {', '.join(sorted(model.labels))}")
    found: dict[str, float] = dict(model.rank(output[:_MOST_READ]))
    mine = found.pop(wanted)
    other = max(probability for name, probability in found.items() if len(name) == 2)
    if mine >= _ODDS * other:
        return 1.0
    if other >= _ODDS * mine:
        return 0.0
    raise Unsure("the output's language cannot be told: it is too short, mixed, or in none")


@cache
def _model() -> Any:
    """Load the model at the first question: it takes some 100 MB, and half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
