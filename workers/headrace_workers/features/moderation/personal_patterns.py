"""Patterns and checksums of personal data, among them the national numbers of persons."""

import ipaddress
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

import regex
import tldextract
from stdnum import iban, luhn

SURE: Final = 0.9  # the shape is the number's own, or two checks hold
DOUBTFUL: Final = 0.1  # as many digits as other numbers have: a word must stand before it


class _Kind(NamedTuple):
    """A country's number: the module of python-stdnum that checks it, its shape, and how sure a valid one is."""

    check: str
    shape: str
    score: float = DOUBTFUL


_KINDS: Final = (
    _Kind("at.vnr", r"\d{4} ?\d{6}"),
    _Kind("au.tfn", r"\d{3} ?\d{3} ?\d{2,3}"),
    _Kind("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", SURE),
    _Kind("be.nn", r"\d{11}"),
    _Kind("bg.egn", r"\d{10}"),
    _Kind("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", SURE),
    _Kind("br.cpf", r"\d{11}"),
    _Kind("ca.sin", r"\d{3}[- ]?\d{3}[- ]?\d{3}"),
    _Kind("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}", SURE),
    _Kind("ch.ssn", r"756\d{10}", SURE),
    _Kind("cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", SURE),
    _Kind("cl.rut", r"\d{7,8}-?[\dkK]"),
    _Kind("cn.ric", r"\d{17}[\dX]", SURE),
    _Kind("cz.rc", r"\d{6}/\d{3,4}", SURE),
    _Kind("cz.rc", r"\d{10}"),
    _Kind("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}"),
    _Kind("dk.cpr", r"\d{6}-?\d{4}"),
    _Kind("ee.ik", r"[1-8]\d{10}"),
    _Kind("es.dni", r"\d{8}-?[A-Z]", SURE),
    _Kind("es.nie", r"[XYZ]-?\d{7}-?[A-Z]", SURE),
    _Kind("fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", SURE),
    _Kind("fr.nir", r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", SURE),
    _Kind("gr.amka", r"\d{11}"),
    _Kind("hr.oib", r"\d{11}"),
    _Kind("ie.pps", r"\d{7}[A-W][A-IW]?"),
    _Kind("il.idnr", r"\d{8}-?\d"),
    _Kind("in_.aadhaar", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}"),
    _Kind("in_.pan", r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", SURE),
    _Kind("is_.kennitala", r"\d{6}-?\d{4}"),
    _Kind("it.codicefiscale", r"[A-Z]{6}[\dLMNP-V]{2}[A-Z][\dLMNP-V]{2}[A-Z][\dLMNP-V]{3}[A-Z]", SURE),
    _Kind("kr.rrn", r"\d{6}-\d{7}", SURE),
    _Kind("lt.asmens", r"[3-6]\d{10}"),
    _Kind("mx.curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", SURE),
    _Kind("my.nric", r"\d{6}-\d{2}-\d{4}"),
    _Kind("nl.bsn", r"\d{4}\.?\d{2}\.?\d{3}"),
    _Kind("no.fodselsnummer", r"\d{6} ?\d{5}"),
    _Kind("nz.ird", r"\d{2,3}[- ]?\d{3}[- ]?\d{3}"),
    _Kind("pl.pesel", r"\d{11}"),
    _Kind("pt.nif", r"\d{3} ?\d{3} ?\d{3}"),
    _Kind("ro.cnp", r"[1-9]\d{12}", SURE),
    _Kind("se.personnummer", r"(?:\d{2})?\d{6}[-+]\d{4}", SURE),
    _Kind("se.personnummer", r"(?:\d{2})?\d{10}"),
    _Kind("si.emso", r"\d{13}", SURE),
    _Kind("th.pin", r"\d[- ]?\d{4}[- ]?\d{5}[- ]?\d{2}[- ]?\d"),
    _Kind("tr.tckimlik", r"[1-9]\d{10}"),
    _Kind("za.idnr", r"\d{6} ?\d{4} ?\d{3}"),
)

# Words that stand before such a number, in English and as the countries call theirs: regular expressions, in lower case
# (of `İ` too, which then is two characters).
WORDS: Final = (
    "national", "identity", "identification", "identifier", "citizen", "resident", "civil", "personal", "social",
    "security", "insurance", "tax", "taxpayer", "tin", "ssn", "nid", "vnr", "svnr", "sozialversicherungsnummer",
    "versicherungsnummer", "tfn", "rijksregisternummer", "niss", "nrn", "egn", "егн", "cpf", "sin", "nas", "ahv", "avs",
    "rut", "run", "rodné", "číslo", "idnr", "steuer-id", "steuer-idnr", "steueridentifikationsnummer",
    "identifikationsnummer", "cpr", "personnummer", "personnr", "isikukood", "dni", "nie", "nif", "hetu",
    "henkilötunnus", "nir", "sécurité", "sociale", "amka", "αμκα", "oib", "pps", "ppsn", "teudat", "zehut", "aadhaar",
    "aadhar", "uidai", "pan", "kennitala", "codice", "fiscale", "asmens", "kodas", "curp", "nric",
    "mykad", "bsn", "burgerservicenummer", "fødselsnummer", "fodselsnummer", "ird", "pesel", "contribuinte", "cnp",
    "samordningsnummer", "emšo", "emso", "ki\u0307?mli\u0307?k", "tckn", "tc", "sv-nummer", "insz", "граждански",
    "cédula", r"r\.?č", "identifikacijski", "תעודת", "זהות", r"ת[.\"]ז", "आधार", "kt", r"a\. ?k", "pengenalan",
    "fnr", "identificação", r"[\u0e00-\u0e7f]{0,40}ประชาชน[\u0e00-\u0e7f]{0,40}", "thai (?:pin|id)", "r?sa id",
    "id-nommer", "identiteitsnommer",
)  # fmt: skip
_SHAPES: Final = tuple((kind, re.compile(rf"(?<![\w.,$€£#/-]){kind.shape}(?![\w/-]|[.,]\d)")) for kind in _KINDS)
_NAMED: Final = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
CHECKS: Final = tuple(dict.fromkeys(kind.check for kind in _KINDS))
COUNTRIES: Final = frozenset(kind.check.partition(".")[0].rstrip("_") for kind in _KINDS)


def national_ids(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each number of a country whose checksum, or date where it has none, holds."""
    named = _NAMED.search(text) is not None
    for kind, shape in _SHAPES:
        if kind.score == DOUBTFUL and not named:
            continue  # no word can stand before it
        for match in shape.finditer(text):
            if _checker(kind.check).is_valid(match[0]) and len(set(filter(str.isdigit, match[0]))) > 2:
                yield *match.span(), kind.score


@cache
def _checker(name: str) -> Any:
    return import_module(f"stdnum.{name}")


Spans = Iterator[tuple[int, int, float]]
CERTAIN: Final = 1.0  # a checksum fits, or the domain is under a public suffix

# The suffix list that ships with tldextract; the default would fetch a newer one over the network.
_SUFFIXES = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
_TOP_LEVEL: Any = regex.compile(r"[^\W\d_]{2,}|xn--[a-z0-9-]+", regex.IGNORECASE)
_LOCAL: Final = r"!#$%&'*+\-/=?^_`{|}~\w"
_EMAIL: Any = regex.compile(rf"\b(?:[{_LOCAL}]|[{_LOCAL}][{_LOCAL}.]*[{_LOCAL}])@\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+\b")
_EMAIL_SCORE: Final = 0.5  # of a domain that is under no public suffix, such as `mail.internal`

_CARD: Any = regex.compile(
    r"\b(?!1\d{12}(?!\d))(?:4\d{3}|5[0-5]\d{2}|6\d{3}|1\d{3}|3\d{3})[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}\b"
)
# The text after an account number may look like a part of it: the groups end where one may end.
_IBAN: Any = regex.compile(
    r"(?<![A-Z0-9])([A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,6})((?:[ -]?[A-Z0-9]{4})?)((?:[ -]?[A-Z0-9]{1,3})?)"
    r"(?![A-Z0-9])"
)

_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_QUAD: Final = rf"(?:{_BYTE}\.){{3}}{_BYTE}"
_HEX: Final = "[0-9A-Fa-f]{1,4}"
_PREFIX: Final = r"(?:/(?:12[0-8]|1[01]\d|[1-9]?\d))?"
_IP: Final[tuple[tuple[Any, float], ...]] = (
    (regex.compile(rf"(?<![\w:])::(?:ffff(?::0{{1,4}})?:)?{_QUAD}{_PREFIX}\b", regex.IGNORECASE), 0.6),
    (
        regex.compile(
            rf"(?<![\w:])(?:(?:{_HEX}:){{1,5}}:(?:{_HEX}:){{0,4}}|(?:{_HEX}:){{6}}){_QUAD}{_PREFIX}\b", regex.IGNORECASE
        ),
        0.6,
    ),
    (regex.compile(rf"\b{_QUAD}(?:/(?:[0-2]?\d|3[0-2]))?\b"), 0.6),
    (
        regex.compile(
            rf"(?<![\w:])(?:(?:{_HEX}:){{7}}{_HEX}|(?:{_HEX}:){{1,7}}:|:(?::{_HEX}){{1,7}}"
            rf"|(?:{_HEX}:){{1,6}}:{_HEX}"
            + "".join(rf"|(?:{_HEX}:){{1,{6 - n}}}(?::{_HEX}){{1,{n + 1}}}" for n in range(1, 5))
            + rf"|{_HEX}:(?::{_HEX}){{1,6}})(?:%[0-9a-z]+)?{_PREFIX}(?![\w:]|\.\d)",
            regex.IGNORECASE,
        ),
        0.6,
    ),
    (regex.compile(rf"(?<![\w:])::{_PREFIX}(?![\w:])"), 0.1),
)

_SSN: Final[tuple[tuple[Any, float], ...]] = (
    (regex.compile(r"\b(?:[0-9]{5}-[0-9]{4}|[0-9]{3}-[0-9]{6}|[0-9]{9})\b"), 0.05),
    (regex.compile(r"\b[0-9]{3}([- .])[0-9]{2}\1[0-9]{4}\b"), 0.5),
)
_SAMPLES: Final = frozenset({"123456789", "987654320", "078051120"})  # printed in leaflets and on sample cards
_ITIN_GROUP: Final = "(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])"
_ITIN: Final[tuple[tuple[Any, float], ...]] = (
    (regex.compile(rf"\b9\d{{2}}(?:[- ]{_ITIN_GROUP}|{_ITIN_GROUP}[- ])\d{{4}}\b"), 0.05),
    (regex.compile(rf"\b9\d{{2}}{_ITIN_GROUP}\d{{4}}\b"), 0.3),
    (regex.compile(rf"\b9\d{{2}}[- ]{_ITIN_GROUP}[- ]\d{{4}}\b"), 0.5),
)
_NINO: Final[tuple[tuple[Any, float], ...]] = (
    (
        regex.compile(
            r"\b(?!BG|GB|NK|KN|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
            regex.IGNORECASE,
        ),
        0.5,
    ),
)


# Domains for examples and for local names: RFC 2606 and 6762.
_RESERVED: Final = ("example", "test", "invalid", "localhost", "local", "example.com", "example.net", "example.org")


def email_addresses(text: str) -> Spans:
    """Yield addresses. One under a public suffix is certain; `lodash@4.17.21` is none."""
    for match in _EMAIL.finditer(text):
        score = email_score(match[0])
        if score is not None:
            yield *match.span(), score


def email_score(address: str) -> float | None:
    """Return the score of what is written like an address; None where its domain can be none."""
    domain = address.rpartition("@")[2]
    if not _TOP_LEVEL.fullmatch(domain.rpartition(".")[2]):
        return None
    return CERTAIN if _SUFFIXES(domain).suffix else _EMAIL_SCORE


def card_numbers(text: str) -> Spans:
    """Yield numbers of payment cards, by Luhn's checksum."""
    for match in _CARD.finditer(text):
        if luhn.is_valid("".join(str(int(digit)) for digit in match[0] if digit.isdecimal())):  # also in other scripts
            yield *match.span(), CERTAIN


def account_numbers(text: str) -> Spans:
    """Yield international bank account numbers, by the checksum and by the shape that the country gives them."""
    for match in _IBAN.finditer(text):
        for end in dict.fromkeys((match.end(3), match.end(2), match.end(1))):
            if iban.is_valid(text[match.start() : end], check_country=False):
                yield match.start(), end, CERTAIN
                break


def ip_addresses(text: str) -> Spans:
    """Yield addresses and networks of either version, none inside another; `::` alone is a doubtful one."""
    found: list[tuple[int, int]] = []  # an address of version 4 may end one of version 6, which is found first
    for start, end, score in _matches(_IP, text):
        if any(first <= start and end <= last for first, last in found):
            continue
        try:
            ipaddress.ip_interface(text[start:end])
        except ValueError:
            continue
        found.append((start, end))
        yield start, end, score


def social_security_numbers(text: str) -> Spans:
    """Yield numbers of the United States' social security. Nine digits in a row are doubtful."""
    for start, end, score in _matches(_SSN, text):
        digits = "".join(filter(str.isdecimal, text[start:end]))
        never_issued = digits[:3] in ("000", "666") or digits[3:5] == "00" or digits[5:] == "0000"
        if not (never_issued or digits in _SAMPLES or len(set(digits)) == 1):
            yield start, end, score


def taxpayer_numbers(text: str) -> Spans:
    """Yield individual taxpayer identification numbers of the United States."""
    return _matches(_ITIN, text)


def national_insurance_numbers(text: str) -> Spans:
    """Yield national insurance numbers of the United Kingdom."""
    return _matches(_NINO, text)


def _matches(patterns: tuple[tuple[Any, float], ...], text: str) -> Spans:
    for pattern, score in patterns:
        for match in pattern.finditer(text):
            yield *match.span(), score


def is_example_address(address: str) -> bool:
    """Return True for mail to a domain that is reserved for examples, tests or local names."""
    domain = address.rpartition("@")[2].lower()
    return any(domain == reserved or domain.endswith(f".{reserved}") for reserved in _RESERVED)


def is_not_global(address: str) -> bool:
    """Return True for an IP address or network that is private, reserved or for documents (RFC 1918, 5737, 3849)."""
    return not ipaddress.ip_interface(address).ip.is_global
