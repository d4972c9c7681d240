"""Cheap patterns without which a recognizer of personal data cannot find anything. A test holds them against it."""

import re
from typing import Final

from headrace_workers.features.moderation.birth_dates import BIRTH
from headrace_workers.features.moderation.personal_names import SAID
from headrace_workers.features.moderation.postal_addresses import STREET
from headrace_workers.features.moderation.quick_pattern import QuickPattern

# Characters that phonenumbers accepts between two digits of one number, up to four at a time.
PUNCTUATION: Final = (
    r"-x\u2010-\u2015\u2212\u30fc\uff0d-\uff0f \u00a0\u00ad\u200b\u2060\u3000"
    r"()\uff08\uff09\uff3b\uff3d.\[\]/~\u2053\u223c\uff5e"
)
# A telephone number has at least seven digits. The pattern cannot backtrack.
ENOUGH_DIGITS: Final = re.compile(rf"\d(?:[{PUNCTUATION}]{{0,4}}\d){{6}}")

_HEX = "[0-9A-Fa-f]"
# A quick look at an @, a digit or a colon, which every gate below needs but those of WORDED.
ANYTHING: Final = re.compile(
    rf"[@\d:](?:(?<=@)|(?<=::)|(?<=:){_HEX}{{1,4}}:"
    rf"|(?<=\d)(?:(?:[{PUNCTUATION}]{{0,4}}\d){{5}}|\.\d{{1,3}}\.\d)"
    rf"|(?<=[A-Z]{{2}}\d)\d[ -]?[A-Z0-9]|(?<=[A-Z]{{5}}\d)\d{{3}}|(?<=[A-Z]{{6}}\d))"
)
WORDED: Final = frozenset({"birth_date", "address", "name"})
GATES: Final[dict[str, re.Pattern[str] | QuickPattern]] = {
    "email": re.compile("@"),
    "card": re.compile(r"\d(?:[- ]?\d){12}"),
    "iban": re.compile(r"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}"),
    "ip_address": re.compile(rf"\d\.\d{{1,3}}\.\d{{1,3}}\.\d|::|{_HEX}:(?:{_HEX}{{1,4}}:){{5}}"),
    "ssn": re.compile(r"\d(?:[- .]?\d){8}"),
    "itin": re.compile(r"9\d\d[- ]?\d\d[- ]?\d{4}"),
    "nino": re.compile(r"[A-Za-z]{2} ?\d\d ?\d\d ?\d\d ?[A-Da-d]"),
    "national_id": re.compile(
        r"\d(?:[-. /]{0,2}\d){6}|[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]|[A-Z]{4}\d{6}[HMX]|[A-Z]{6}[\dLMNP-V]{2}[A-Z]"
    ),
    "birth_date": BIRTH,
    "address": STREET,
    "name": SAID,
    "phone": ENOUGH_DIGITS,
}
