"""Dates of birth, names and postal addresses by the words around them; and the gates of all recognizers."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final


class QuickPattern:
    """Patterns of RE2, compiled at their first use, which tell whether a text may hold something. RE2's `\\b`, `\\w`
    and `\\d` know ASCII alone: `\\b` is safe only beside a letter of ASCII.
    """

    def __init__(self, *patterns: str) -> None:
        self.patterns = patterns

    def search(self, text: str) -> Sequence[int] | None:
        """Return the places of the patterns that match, in no order; None if none does."""
        found: Sequence[int] | None = self._compiled.Match(text.encode("utf-8", "replace"))
        return found

    @cached_property
    def _compiled(self) -> Any:
        import re2

        compiled = re2.Set.SearchSet()
        for pattern in self.patterns:
            compiled.Add(pattern.encode())
        compiled.Compile()
        return compiled


# Dates of birth: dates that stand shortly after a word that says so, in nine languages.

_MONTHS: Final = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|april|june|july|august|september"
    r"|october|november|december|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|avril|juin"
    r"|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre"
    r"|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|janeiro"
    r"|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro|januari|februari|maart|mei|augustus"
    r"|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|września|października|listopada|grudnia"
    r"|i{1,3}|i?[vx]|vi{1,3}|xi{1,2})\.?"  # months as Roman numerals
)
_YEAR: Final = r"(?:1[89]|20)\d\d"
_BIRTH_DATE: Final = (
    rf"(?:{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/. ]{{1,2}}\d{{1,2}}[-/. ]{{1,2}}(?:{_YEAR}|\d\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|º|\.)?[ -](?:of[ ]|de[ ])?{_MONTHS},?[ -](?:del?[ ])?{_YEAR}"
    rf"|{_MONTHS}[ ]\d{{1,2}}(?:st|nd|rd|th)?,?[ ]{_YEAR})"
)
_NOUNS: Final = (
    r"(?:birth[ -]?dates?|birth[ ]?days?|dates?[ ]of[ ]birth|d\.?o\.?b\b\.?|geburtsdatum|geburtstag"
    r"|date[ ]de[ ]naissance|fecha[ ]de[ ]nacimiento|(?:fecha|f\.)(?:[ ]de)?[ ]nac\.|data[ ]di[ ]nascita"
    r"|data[ ]de[ ]nascimento|data[ ]de[ ]nasc\.|geboortedatum|födelsedatum|dat[aęy][ ]urodzenia)"
)
_VERBS: Final = (
    r"(?:born|geboren|geb\.|née?[ ]le|nací|nació|nacid[oa]|nat[oa][ ]il|nasc(?:i|eu|id[oa])\b|född|urodzi[łl]"
    r"|urodzon[aey]|ur\.)"
)
BIRTH: Final = QuickPattern(rf"(?i)\b(?:{_NOUNS}|{_VERBS})")
# A noun may stand in the sentence before: "Your date of birth? It is …".
_BORN: Final = re.compile(
    rf"\b(?:{_NOUNS}[^\n\d]{{0,40}}?|{_VERBS}[^.!?\n\d]{{0,40}}?)\b({_BIRTH_DATE})(?![\w/-])", re.IGNORECASE
)
_BIRTH_SCORE: Final = 0.9


def birth_dates(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each date that is said to be one of birth."""
    for match in _BORN.finditer(text):
        yield *match.span(1), _BIRTH_SCORE


# Names of people where a text says that a name stands: "My name is …", "Name: …", "Dear Ms …", a signature.
#
# A name that stands in prose without such words is left: most are of people in the news.

_UPPER: Final = "[A-ZÀ-ÖØ-ÞĀ-ŽΆ-Ω]"
_NAME_PART: Final = rf"(?:(?:van|von|de|der|den|di|da|del|la|le|bin|al|af|O'|D')[ ]?)?{_UPPER}(?:\.|[\w'’-]{{1,30}})"
_PERSON: Final = rf"(?:{_NAME_PART})(?:[ ]{_NAME_PART}){{0,3}}"
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
_NAME_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        rf"\b(?i:(?:my|his|her|your|their|maiden|last|first|full|middle|family)[ ](?:[a-z]+[ ])?"
        rf"name(?:['’]s|[ ]is|[ ]was)|(?-i:[Cc]alls?[ ]me)|(?:I['’]m|I[ ]am|was|is)[ ]called"
        rf"|m[ey][ ]llamo|mi[ ]nombre[ ]es|ich[ ]heiße|mein[ ]name[ ]ist"
        rf"|je[ ]m['’]appelle|mon[ ]nom[ ]est|mi[ ]chiamo|mio[ ]nome[ ]è|meu[ ]nome[ ]é"
        rf"|chamo-me|ik[ ]heet|mijn[ ]naam[ ]is)[ ](?:{_TITLE})?({_NOBODY}{_PERSON})",
        rf"\b(?i:(?:last|first|full|maiden|your|the)[ ]name)\?[ ](?:It['’]s[ ]|It[ ]is[ ])?({_NOBODY}{_PERSON})",
        rf"\b(?i:name)[^.!?\n]{{0,80}}\b(?i:(?:change|correct|update|set|amend)[ ](?:it|this|that)[ ]to)[ ]"
        rf"(?:{_TITLE})?({_NOBODY}{_PERSON})",
        rf"(?m)^[ \t>*-]{{0,4}}(?i:(?:full|first|last|family|given|customer|patient|contact|applicant)?[ ]?name)"
        rf"[ ]?:[ \t]{{0,8}}(?:{_TITLE})?({_PERSON})",
        rf"\bDear[ ]{_TITLE}({_PERSON})",
        rf"\bDear[ ]({_NOBODY}{_PERSON})(?=[,:!\n])",
        rf"(?i:\b(?:regards|sincerely|cheers|thanks|thank[ ]you|wishes|faithfully|truly|signed))[,.!]?[ ]?\n\s{{0,4}}"
        rf"({_NOBODY}{_PERSON})(?=\s*(?:\n|\Z))",
    )
)
_NAME_SCORE: Final = 0.6


def personal_names(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each name that a text says to be one."""
    for form in _NAME_FORMS:
        for match in form.finditer(text):
            yield *match.span(1), _NAME_SCORE


# Postal addresses: a street with its number, in the forms of some thirty countries, and boxes of post offices.
#
# A form that prose has, too (`20 Berkeley Square`), counts only before a town and its postcode.

_NUMBER: Final = r"\d{1,5}(?:[ ]?[A-Za-z]\b|[-/]\d{1,4}[A-Za-z]?)?"
_PLAIN: Final = r"(?!(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\b)"  # a date is no street
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

_POSTCODE: Final = r"(?:\p{Nd}{2}-?\p{Nd}|[A-Z]\p{Nd}[A-Z\p{Nd}]?[ ]?\p{Nd}[A-Z])"
# Forms, each after a quick pattern without which none of them matches: a word for a street beside a number, a box, or a
# number before a name and a postcode.
_ADDRESS_FORMS: Final = (
    (rf"[ ]{_ROAD}", (rf"\b{_NUMBER},?[ ](?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th))[ ]){{1,4}}{_ROAD}(?:{_TAIL})?",)),
    (rf"\p{{Nd}}(?:[ ]?[A-Za-z])?,?[ ]{_BEFORE}[ ]", (rf"\b{_NUMBER},?[ ]{_BEFORE}[ ]{_CALLED}(?:{_TAIL})?",)),
    (
        rf"{_BEFORE}[ ](?:{_LINKS}[ ]|[dl]['’]){{0,5}}{_UPPER}[^\n,\p{{Nd}}]*,?[ ]?(?:n[°º.][ ]?)?\p{{Nd}}",
        (rf"(?<!\w){_BEFORE}[ ]{_CALLED},?[ ](?:n[°º.][ ]?)?{_NUMBER}(?!\w)(?:{_TAIL})?",),
    ),
    (
        rf"(?:{_ENDING}|[ ]{_BEHIND}|{_BOX})[ ]\p{{Nd}}",
        (
            rf"\b{_UPPER}[\w'’-]{{2,30}}?{_ENDING}[ ]{_NUMBER}(?!\w)(?:{_TAIL})?",
            rf"\b{_NAME}(?:[ ]{_NAME}){{0,3}}[ ]{_BEHIND}[ ]{_NUMBER}(?!\w)(?:{_TAIL})?",
            rf"\b{_BOX}[ ]\d{{1,6}}\b(?:{_TAIL})?",
        ),
    ),
    (
        rf"\p{{Nd}}(?:[ ]?[A-Za-z])?\.?,?[\s\pZ\x0b\x1c-\x1f\x85]{{1,4}}(?:{_UPPER}(?s:.*){_POSTCODE}|{_POSTCODE})",
        (
            rf"\b{_NUMBER},?[ ]{_PLAIN}{_NAMES}{_TAIL}",
            rf"\b{_PLAIN}{_NAME}(?:[ ](?:{_PLAIN}{_NAME}|{_LINKS})){{0,4}}[ ]{_NUMBER}(?!\w){_TAIL}",
        ),
    ),
)
STREET: Final = QuickPattern(*(quick for quick, _ in _ADDRESS_FORMS))
_FORMS: Final = tuple(tuple(re.compile(form) for form in forms) for _, forms in _ADDRESS_FORMS)
_ADDRESS_SCORE: Final = 0.6


def postal_addresses(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each address."""
    for place in sorted(STREET.search(text) or ()):
        for form in _FORMS[place]:
            for match in form.finditer(text):
                yield *match.span(), _ADDRESS_SCORE


# Cheap patterns without which a recognizer of personal data cannot find anything. A test holds them against it.

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
