"""Personal data by pattern and checksum: Presidio's recognizers, without a language model and without a network."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from headrace_workers.core.ports import Detection
from headrace_workers.features.moderation.detector_versions import version_of
from headrace_workers.features.moderation.gates import ANYTHING, GATES
from headrace_workers.features.moderation.import_stubs import left_out
from headrace_workers.features.moderation.windows import outermost, windows

# Presidio scores a weak pattern (nine digits: a social security number?) below this, unless a word of the
# recognizer's context stands before it.
SCORE_FLOOR: Final = 0.4
_CONTEXT_BOOST: Final = 0.35  # as Presidio's own context enhancer
_CONTEXT_CHARACTERS: Final = 40

# A dotted quad after one of these words counts releases, not hosts.
_VERSION = re.compile(r"(?i)\b(?:version|release|build|firmware|section|clause|chapter|v)\.? ?\Z")


# Findings of these rules are hidden from the rules after them: a card number is no telephone number, and trying it
# as one in eight countries is slow.
_CERTAIN: Final = frozenset({"card", "iban", "ip_address"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """A recognizer, and a cheap pattern without which it cannot find anything (tested: gates change no verdict)."""

    category: str
    gate: re.Pattern[str]
    recognizer: Any


class PersonalDataDetector:
    """Finds e-mail addresses, telephone, card, account, social security and tax numbers, and IP addresses."""

    name = "personal_data"
    reads_words = False
    categories = frozenset({"email", "phone", "card", "iban", "ip_address", "ssn", "itin", "nino"})

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the personal data in each text. The recognizers are loaded by the first call."""
        return [self._detect(text) for text in texts]

    @cached_property
    def version(self) -> str:
        """The version of the patterns."""
        return version_of("presidio-analyzer")

    @cached_property
    def _rules(self) -> list[_Rule]:
        return _load()

    def _detect(self, text: str) -> list[Detection]:
        if not ANYTHING.search(text):
            return []
        found: dict[str, dict[tuple[int, int], float]] = {}  # category, span, score
        for offset, window in windows(text):
            rest = window
            for rule in self._rules:
                if not rule.gate.search(rest):
                    continue
                for start, end, score in _findings(rule, rest):
                    scores = found.setdefault(rule.category, {})
                    span = offset + start, offset + end
                    scores[span] = max(score, scores.get(span, 0.0))
                    if rule.category in _CERTAIN:
                        rest = rest[:start] + "A" * (end - start) + rest[end:]
        kept = [
            Detection(category, scores[span], *span) for category, scores in found.items() for span in outermost(scores)
        ]
        return sorted(kept, key=lambda d: (d.start, d.end))


@cache
def _load() -> list[_Rule]:
    """Return the rules, which all detectors of a process share."""
    # Most of what importing takes, and only Presidio's engines of language models use them.
    with left_out("spacy", "thinc", optional=("torch", "transformers"), of="presidio_analyzer"):
        from presidio_analyzer import predefined_recognizers as presidio

        from headrace_workers.features.moderation.presidio_recognizers import (
            OfflineEmailRecognizer,
            ShapedPhoneRecognizer,
        )

    # Its warnings may quote the text.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)
    recognizers = {
        "email": OfflineEmailRecognizer(),
        "card": presidio.CreditCardRecognizer(),
        "iban": presidio.IbanRecognizer(),
        "ip_address": presidio.IpRecognizer(),
        "ssn": presidio.UsSsnRecognizer(),
        "itin": presidio.UsItinRecognizer(),
        "nino": presidio.UkNinoRecognizer(),
        "phone": ShapedPhoneRecognizer(),
    }
    return [_Rule(category, GATES[category], recognizer) for category, recognizer in recognizers.items()]


def _findings(rule: _Rule, text: str) -> list[tuple[int, int, float]]:
    """Start, end and score of what the recognizer is sure enough of."""
    found = []
    for result in rule.recognizer.analyze(text, rule.recognizer.supported_entities):
        score = _score(text, result, rule.recognizer.context or ())
        if score >= SCORE_FLOOR and not (rule.category == "ip_address" and _is_version(text, result.start)):
            found.append((result.start, result.end, score))
    return found


def _score(text: str, result: Any, context: Sequence[str]) -> float:
    """Return the recognizer's score, raised where a word of its context stands shortly before the span."""
    score = float(result.score)
    if score >= SCORE_FLOOR:
        return score
    before = text[max(0, result.start - _CONTEXT_CHARACTERS) : result.start].lower()
    if any(re.search(rf"\b{re.escape(word.strip())}\b", before) for word in context):
        return max(SCORE_FLOOR, score + _CONTEXT_BOOST)
    return score


def _is_version(text: str, start: int) -> bool:
    return _VERSION.search(text[max(0, start - 12) : start]) is not None
