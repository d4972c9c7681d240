"""Personal data: what is found of national numbers and dates of birth in sentences of others, and how many ordinary
texts are changed for personal data that they do not hold.
"""

import csv
import inspect
import io
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Final, NamedTuple

import numpy as np

from bench.ends import Say
from bench.foreign_package import Package
from bench.foreign_texts import everyday
from bench.moderation import estimated
from bench.report import Report, Row, report
from headrace_workers.features.moderation.national_ids import COUNTRIES
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.quality.detection_rates import share

NAME = "pii"
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
    clean = everyday(_EACH)
    if quick:
        numbers, dates, documented, clean = (each[::_QUICK] for each in (numbers, dates, documented, clean))
    say(f"{len(numbers) + len(dates) + len(documented):,} values, {len(clean):,} ordinary texts")
    detector = PersonalDataDetector()
    rows = [
        _found(detector, "national numbers found", numbers, at_least=0.9),
        _found(detector, "dates of birth found", dates, at_least=0.9),
        _found(detector, f"python-stdnum's examples of {len(COUNTRIES)} countries found", documented, at_least=0.9),
    ]
    for country in sorted({item.group for item in numbers}):
        rows.append(
            _found(detector, f"national numbers, {country}", [each for each in numbers if each.group == country])
        )
    changed = [bool(found) for found in detector.detect(clean)]
    rows.append(estimated(f"ordinary texts changed, of {len(clean):,}", share(np.array(changed)), at_most=0.02))
    return report(NAME, "no service", rows)


def _found(detector: PersonalDataDetector, metric: str, items: list[Item], at_least: float | None = None) -> Row:
    hits = []
    for item, found in zip(items, detector.detect([item.text for item in items]), strict=True):
        start = item.text.index(item.value)
        hits.append(any(each.start <= start and start + len(item.value) <= each.end for each in found))
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


def _documented() -> Iterator[Item]:
    from headrace_workers.features.moderation.national_ids import CHECKS

    templates = _templates("ssn")
    for check in CHECKS:
        for number, value in enumerate(_EXAMPLE.findall(inspect.getdoc(import_module(f"stdnum.{check}")) or "")):
            yield _item(templates[number % len(templates)], _COUNTRY.sub("", value), check)


def _item(template: str, value: str, group: str) -> Item:
    return Item(template.replace("\0", value), value, group)
