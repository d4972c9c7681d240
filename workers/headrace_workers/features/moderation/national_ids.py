"""Numbers by which states know their people, by shape and by the checksum that python-stdnum has for them."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

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
