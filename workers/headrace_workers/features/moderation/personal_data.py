"""Personal data by pattern and checksum, without a language model and without a network."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from headrace_schemas.hazards import HAZARDS
from headrace_workers.features.moderation.detector import Detection, version_of
from headrace_workers.features.moderation.personal_patterns import WORDS, national_ids
from headrace_workers.features.moderation.personal_words import ANYTHING, GATES, WORDED, QuickPattern
from headrace_workers.features.moderation.segments import outermost, windows

# A weak pattern (nine digits: a social security number?) scores below this, unless a word of the recognizer's context
# stands before it.
SCORE_FLOOR: Final = 0.4
_CONTEXT_BOOST: Final = 0.35
_CONTEXT_CHARACTERS: Final = 40

# A dotted quad after one of these words counts releases, not hosts.
_VERSION = re.compile(r"(?i)\b(?:version|release|build|firmware|section|clause|chapter|v)\.? ?\Z")


# Findings of these rules are hidden from the rules after them: a card number is no telephone number, and trying it
# as one in eight countries is slow.
_CERTAIN: Final = frozenset({"card", "iban", "ip_address", "national_id", "birth_date", "address"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """A recognizer, and a cheap pattern without which it cannot find anything (tested: gates change no verdict)."""

    category: str
    gate: re.Pattern[str] | QuickPattern
    recognize: Callable[[str], Iterator[tuple[int, int, float]]]
    context: re.Pattern[str] | None  # words that make a doubtful finding likely
    identifies_nobody: Callable[[str], bool]  # such as an address that is reserved for examples


class PersonalDataDetector:
    """Finds e-mail, IP and postal addresses, dates of birth, names after a word for one, and telephone, card,
    account, tax and national numbers.
    """

    name = "personal_data"
    reads_words = False
    categories = frozenset(kind for hazard in HAZARDS if hazard.name == "personal_data" for kind in hazard.kinds)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the personal data in each text. The recognizers are loaded by the first call."""
        return [self._detect(text) for text in texts]

    @cached_property
    def version(self) -> str:
        """The version of the patterns and of the telephone numbers' plans."""
        return version_of("phonenumberslite")

    @cached_property
    def _rules(self) -> list[_Rule]:
        return _load()

    @cached_property
    def _worded(self) -> list[_Rule]:
        return [rule for rule in self._rules if rule.category in WORDED]

    def _detect(self, text: str) -> list[Detection]:
        rules = self._rules if ANYTHING.search(text) else self._worded
        may_find = [rule.category for rule in rules if rule.gate.search(text)]
        if not may_find:
            return []
        found: dict[str, dict[tuple[int, int], float]] = {}  # category, span, score
        for offset, window in windows(text):
            rest = window
            for rule in rules:
                if not (rule.category in may_find if rest is text else rule.gate.search(rest)):
                    continue
                read = rest  # findings of a rule may overlap
                for start, end, score in _findings(rule, read):
                    if not rule.identifies_nobody(read[start:end]):
                        scores = found.setdefault(rule.category, {})
                        span = offset + start, offset + end
                        scores[span] = max(score, scores.get(span, 0.0))
                    if rule.category in _CERTAIN:
                        rest = rest[:start] + "A" * (end - start) + rest[end:]
        kept = [
            Detection(category, scores[span], *span) for category, scores in found.items() for span in outermost(scores)
        ]
        return sorted(kept, key=lambda d: (d.start, d.end))


# Words that stand before a doubtful number, by category.
_CONTEXTS: Final = {
    "ip_address": ("ip", "ipv4", "ipv6"),
    "ssn": ("social", "security", "ssn", "ssns", "ssid"),
    "national_id": WORDS,
    "itin": ("individual", "taxpayer", "itin", "tax", "payer", "taxid", "tin"),
    "phone": (
        "phone|number|telephone|cell|cellphone|mobile|call|whatsapp",  # and in Spanish, Portuguese and Polish
        r"tel|tel[eé]fono|telefone|m[oó]vil|telem[oó]vel|celular|ll[aá]mame|telefon\w{0,3}|kom[oó]rk\w|zadzwoń",
    ),
}


@cache
def _load() -> list[_Rule]:
    """Return the rules, which all detectors of a process share."""
    from headrace_workers.features.moderation import personal_patterns as patterns
    from headrace_workers.features.moderation.personal_words import birth_dates, personal_names, postal_addresses
    from headrace_workers.features.moderation.telephone_numbers import telephone_numbers

    recognizers = {
        "email": patterns.email_addresses,
        "card": patterns.card_numbers,
        "iban": patterns.account_numbers,
        "ip_address": patterns.ip_addresses,
        "ssn": patterns.social_security_numbers,
        "itin": patterns.taxpayer_numbers,
        "nino": patterns.national_insurance_numbers,
        "national_id": national_ids,
        "birth_date": birth_dates,
        "address": postal_addresses,
        "phone": telephone_numbers,
        "name": personal_names,
    }
    reserved = {"email": patterns.is_example_address, "ip_address": patterns.is_not_global}
    return [
        _Rule(
            category,
            GATES[category],
            recognize,
            _pattern_of(_CONTEXTS.get(category, ())),
            reserved.get(category, lambda _: False),
        )
        for category, recognize in recognizers.items()
    ]


def _pattern_of(words: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile(rf"\b(?:{'|'.join(words)})\b") if words else None


def _findings(rule: _Rule, text: str) -> list[tuple[int, int, float]]:
    """Start, end and score of what the recognizer is sure enough of."""
    found = []
    for start, end, plain in rule.recognize(text):
        score = _score(rule, text, start, plain)
        if score >= SCORE_FLOOR and not (rule.category == "ip_address" and _is_version(text, start)):
            found.append((start, end, score))
    return found


def _score(rule: _Rule, text: str, start: int, score: float) -> float:
    """Return the recognizer's score, raised where a word of its context stands shortly before the span."""
    if score >= SCORE_FLOOR or rule.context is None:
        return score
    before = text[max(0, start - _CONTEXT_CHARACTERS) : start].lower()
    return max(SCORE_FLOOR, score + _CONTEXT_BOOST) if rule.context.search(before) else score


def _is_version(text: str, start: int) -> bool:
    return _VERSION.search(text[max(0, start - 12) : start]) is not None
