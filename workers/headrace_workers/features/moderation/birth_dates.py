"""Dates of birth: dates that stand shortly after a word that says so, in eight languages."""

import re
from collections.abc import Iterator
from typing import Final

from headrace_workers.features.moderation.quick_pattern import QuickPattern

_MONTHS: Final = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|april|june|july|august|september"
    r"|october|november|december|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|avril|juin"
    r"|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre"
    r"|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|janeiro"
    r"|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro|januari|februari|maart|mei|augustus)\.?"
)
_YEAR: Final = r"(?:1[89]|20)\d\d"
_DATE: Final = (
    rf"(?:{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/. ]{{1,2}}\d{{1,2}}[-/. ]{{1,2}}(?:{_YEAR}|\d\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|º|\.)?[ -](?:of[ ]|de[ ])?{_MONTHS},?[ -](?:de[ ])?{_YEAR}"
    rf"|{_MONTHS}[ ]\d{{1,2}}(?:st|nd|rd|th)?,?[ ]{_YEAR})"
)
_NOUNS: Final = (
    r"(?:birth[ -]?dates?|birth[ ]?days?|dates?[ ]of[ ]birth|d\.?o\.?b\b\.?|geburtsdatum|geburtstag"
    r"|date[ ]de[ ]naissance|fecha[ ]de[ ]nacimiento|data[ ]di[ ]nascita|data[ ]de[ ]nascimento|geboortedatum"
    r"|födelsedatum)"
)
_VERBS: Final = r"(?:born|geboren|geb\.|née?[ ]le|nacid[oa]|nat[oa][ ]il|nascid[oa]|född)"
BIRTH: Final = QuickPattern(rf"(?i)\b(?:{_NOUNS}|{_VERBS})")
# A noun may stand in the sentence before: "Your date of birth? It is …".
_BORN: Final = re.compile(
    rf"\b(?:{_NOUNS}[^\n\d]{{0,40}}?|{_VERBS}[^.!?\n\d]{{0,40}}?)\b({_DATE})(?![\w/-])", re.IGNORECASE
)
_SCORE: Final = 0.9


def birth_dates(text: str) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and score of each date that is said to be one of birth."""
    for match in _BORN.finditer(text):
        yield *match.span(1), _SCORE
