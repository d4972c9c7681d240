"""Names of people where a text says that a name stands: "My name is …", "Name: …", "Dear Ms …", a signature.

A name that stands in prose without such words is left: most are of people in the news.
"""

import re
from collections.abc import Iterator
from typing import Final

from headrace_workers.features.moderation.quick_pattern import QuickPattern

_UPPER: Final = "[A-ZÀ-ÖØ-ÞĀ-ŽΆ-Ω]"
_PART: Final = rf"(?:(?:van|von|de|der|den|di|da|del|la|le|bin|al|af|O'|D')[ ]?)?{_UPPER}(?:\.|[\w'’-]{{1,30}})"
_NAME: Final = rf"(?:{_PART})(?:[ ]{_PART}){{0,3}}"
_TITLE: Final = r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Mme|M|Sr|Sra|Sig|Signora|Senhor|Senhora)\b\.?[ ]"
_NOBODY: Final = (  # who is greeted or signs without a name
    r"(?!(?:Sir|Madam|Mr|Mrs|Ms|All|Team|Customers?|Colleagues?|Friends?|Everyone|Editor|Guests?|Parents?|Students?|Sirs"
    r"|God|Lord|Support|Service|Hiring|Valued|Users?|Readers?|The|A|An|My|Our|Your|This|That|It|Not|No|In|On)\b)"
)
SAID: Final = QuickPattern(  # what every form has
    r"(?i)name|called|calls?[ ]me|m[ey][ ]llamo|mi[ ]nombre[ ]es|ich[ ]heiße|je[ ]m['’]appelle|mon[ ]nom[ ]est"
    r"|mi[ ]chiamo|mio[ ]nome[ ]è|meu[ ]nome[ ]é|chamo-me|ik[ ]heet|naam[ ]is|dear|regards|sincerely|cheers|thanks"
    r"|thank[ ]you|wishes|faithfully|truly|signed"
)
_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        rf"\b(?i:(?:my|his|her|your|their|maiden|last|first|full|middle|family)[ ](?:[a-z]+[ ])?"
        rf"name(?:['’]s|[ ]is|[ ]was)|(?:call|calls)[ ]me|(?:I['’]m|I[ ]am|was|is)[ ]called"
        rf"|m[ey][ ]llamo|mi[ ]nombre[ ]es|ich[ ]heiße|mein[ ]name[ ]ist"
        rf"|je[ ]m['’]appelle|mon[ ]nom[ ]est|mi[ ]chiamo|mio[ ]nome[ ]è|meu[ ]nome[ ]é"
        rf"|chamo-me|ik[ ]heet|mijn[ ]naam[ ]is)[ ](?:{_TITLE})?({_NOBODY}{_NAME})",
        rf"\b(?i:(?:last|first|full|maiden|your|the)[ ]name)\?[ ](?:It['’]s[ ]|It[ ]is[ ])?({_NOBODY}{_NAME})",
        rf"\b(?i:name)[^.!?\n]{{0,80}}\b(?i:(?:change|correct|update|set|amend)[ ](?:it|this|that)[ ]to)[ ]"
        rf"(?:{_TITLE})?({_NOBODY}{_NAME})",
        rf"(?m)^[ \t>*-]{{0,4}}(?i:(?:full|first|last|family|given|customer|patient|contact|applicant)?[ ]?name)"
        rf"[ ]?:[ \t]{{0,8}}(?:{_TITLE})?({_NAME})",
        rf"\bDear[ ]{_TITLE}({_NAME})",
        rf"\bDear[ ]({_NOBODY}{_NAME})(?=[,:!\n])",
        rf"(?i:\b(?:regards|sincerely|cheers|thanks|thank[ ]you|wishes|faithfully|truly|signed))[,.!]?[ ]?\n\s{{0,4}}"
        rf"({_NOBODY}{_NAME})(?=\s*(?:\n|\Z))",
    )
)
_SCORE: Final = 0.6


def personal_names(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each name that a text says to be one."""
    for form in _FORMS:
        for match in form.finditer(text):
            yield *match.span(1), _SCORE
