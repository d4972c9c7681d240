"""Postal addresses: a street with its number, in the forms of some thirty countries, and boxes of post offices.

A form that prose has, too (`20 Berkeley Square`), counts only before a town and its postcode.
"""

import re
from collections.abc import Iterator
from typing import Final

from headrace_workers.features.moderation.quick_pattern import QuickPattern

_NUMBER: Final = r"\d{1,5}(?:[ ]?[A-Za-z]\b|[-/]\d{1,4}[A-Za-z]?)?"
_PLAIN: Final = r"(?!(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\b)"  # a date is no street
_UPPER: Final = "[A-ZÀ-ÖØ-ÞĀ-ŽΆ-Ω]"
_NAME: Final = rf"{_UPPER}[\w'’.-]{{0,30}}"
_NAMES: Final = rf"{_NAME}(?:[ ]{_NAME}){{0,3}}"
_LINKS: Final = r"(?:d[aeiou]s?|de[ls]|della|delle|dei|la|las|le|les|los|du|des|dos|y|e|et|von|van|den|der|af|av)"
_ROAD: Final = (
    r"(?:Street|Str|St|Road|Rd|Avenue|Ave|Boulevard|Blvd|Lane|Ln|Drive|Dr|Terrace|Tce|Crescent|Cres|Parkway|Pkwy"
    r"|Highway|Hwy|Street[ ](?:North|South|East|West))\b\.?"
)
_ENDING: Final = (  # of a word that names a street
    r"(?:straße|strasse|str\.|weg|gasse|platz|allee|damm|ufer|gade|vej|allé|vägen|gatan|gränd|stigen|gaten|gata|gate"
    r"|veien|vegen|vei|veg|vegur|straat|laan|plein|kade|gracht|singel|dijk|dreef|steenweg|katu|kuja|polku|braut|stræti)"
)
_BEHIND: Final = (  # a name
    r"(?:utca|út|útja|tér|körút|u\.|Strasse|Straße|Str\.|Weg|Platz|Allee|Gasse|gade|Allé|Alle|Vej|tänav|tee|mnt|põik|pst"
    r"|puiestee|cesta|ulica|trg|pot|ulice|třída|náměstí|straat|weg|laan|gata|väg|gate|vei|katu|tie)"
)
_BEFORE: Final = (  # a name
    r"(?:[Rr]ue|[Aa]venue|Av\.|[Bb]oulevard|Bd\.?|[Pp]lace|[Cc]ours|[Cc]hemin|Route|[Ii]mpasse|[Aa]llée|Quai|Via|Viale|Piazza|Corso"
    r"|Vicolo|Strada|[Cc]alle|C/|[Aa]venida|Avda\.?|Plaza|Paseo|Carretera|Camino|Rua|Travessa|Praça|Alameda|Estrada"
    r"|[Uu]l\.|Ulica|[Aa]l\.|[Oo]s\.)"
)
_CALLED: Final = rf"(?:(?:{_LINKS}|{_NAME})[ ]|[dl]['’]){{0,5}}{_NAME}"
_BOX: Final = r"(?:P\.?[ ]?O\.?[ ]?Box|Postfach|Postboks|Apartado|Boîte[ ]postale|Casilla|Postbus)"
# 1010 Wien, F-75001 Paris, 1016 GC Amsterdam, 03-921 Warszawa; Springfield, IL 62704; London SW1A 1AA
_CODE: Final = r"(?:[A-Z]{1,3}-)?(?:\d{3,5}(?:[- ]\d{2,4})?|\d\d-\d{3})"
_TOWN: Final = (
    rf"(?:{_CODE}[ ](?:[A-Z]{{2}}[ ])?{_UPPER}[\w'’.-]{{2,30}}(?:[ ]{_NAME}){{0,3}}"
    rf"|{_NAMES},?\s{{1,3}}(?:[A-Z]{{2,3}},?[ ])?"
    rf"(?:{_CODE}|[A-Z]{{1,2}}\d[A-Z\d]?[ ]?\d[A-Z]{{2}}|[A-Z]\d[A-Z][ ]?\d[A-Z]\d)\b)"
)
_FLAT: Final = r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor)\b\.?[ ]?\w{1,6},?\s{1,4})?"
_TAIL: Final = rf"\.?,?\s{{1,4}}{_FLAT}{_TOWN}"

_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        rf"\b{_NUMBER},?[ ](?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th))[ ]){{1,4}}{_ROAD}(?:{_TAIL})?",
        rf"\b{_NUMBER},?[ ]{_BEFORE}[ ]{_CALLED}(?:{_TAIL})?",
        rf"(?<!\w){_BEFORE}[ ]{_CALLED},?[ ](?:n[°º.][ ]?)?{_NUMBER}(?!\w)(?:{_TAIL})?",
        rf"\b{_UPPER}[\w'’-]{{2,30}}?{_ENDING}[ ]{_NUMBER}(?!\w)(?:{_TAIL})?",
        rf"\b{_NAME}(?:[ ]{_NAME}){{0,3}}[ ]{_BEHIND}[ ]{_NUMBER}(?!\w)(?:{_TAIL})?",
        rf"\b{_BOX}[ ]\d{{1,6}}\b(?:{_TAIL})?",
        rf"\b{_NUMBER},?[ ]{_PLAIN}{_NAMES}{_TAIL}",
        rf"\b{_PLAIN}{_NAME}(?:[ ](?:{_PLAIN}{_NAME}|{_LINKS})){{0,4}}[ ]{_NUMBER}(?!\w){_TAIL}",
    )
)
_POSTCODE: Final = r"(?:\p{Nd}{2}-?\p{Nd}|[A-Z]\p{Nd}[A-Z\p{Nd}]?[ ]?\p{Nd}[A-Z])"
# What every form has: a word for a street beside a number, a box, or a number before a name and a postcode.
STREET: Final = QuickPattern(
    rf"[ ]{_ROAD}|\p{{Nd}}(?:[ ]?[A-Za-z])?,?[ ]{_BEFORE}[ ]"
    rf"|{_BEFORE}[ ](?:{_LINKS}[ ]|[dl]['’]){{0,5}}{_UPPER}[^\n,\p{{Nd}}]*,?[ ]?(?:n[°º.][ ]?)?\p{{Nd}}"
    rf"|(?:{_ENDING}|[ ]{_BEHIND}|{_BOX})[ ]\p{{Nd}}"
    rf"|\p{{Nd}}(?:[ ]?[A-Za-z])?\.?,?[\s\pZ\x0b\x1c-\x1f\x85]{{1,4}}(?:{_UPPER}(?s:.*){_POSTCODE}|{_POSTCODE})"
)
_SCORE: Final = 0.6


def postal_addresses(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each address."""
    for form in _FORMS:
        for match in form.finditer(text):
            yield *match.span(), _SCORE
