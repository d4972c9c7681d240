"""Judge: how far the default model may be trusted as a judge, by `headrace bench judge`, with intervals."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.ends import Say
from bench.report import Report, Row, report, row, skipped
from headrace_producers.settings import DEFAULT_MODEL
from headrace_workers.features.judging.judge_probe import ITEMS, Measure, probe
from headrace_workers.stats.estimates import Undefined

NAME = "judge"
_QUICK: Final = 6  # items


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """24 plain items, asked in pairs, on both scales, and once more alone. No service: `embedded` changes nothing."""
    from headrace_workers.models.engines.load_generator import load_generator
    from headrace_workers.models.pull import pull

    items = ITEMS[:_QUICK] if quick else ITEMS
    with tempfile.TemporaryDirectory() as folder:
        say(f"getting {DEFAULT_MODEL}")
        pull(DEFAULT_MODEL, Path(folder))
        generator = load_generator(Path(folder), DEFAULT_MODEL)
        say(f"{len(items)} items")
        found = probe(generator, items)
    rows = [figure for measure in found.measures for figure in _rows(measure)]
    rows += [
        row("answered in the permitted words", 1 - found.unanswered / found.asked, "share"),
        row("mass that fell on them, median", found.mass, "share"),
    ]
    return report(NAME, f"{DEFAULT_MODEL} int8, no service", rows)


def _rows(measure: Measure) -> Iterator[Row]:
    """A share with the bound that it is to keep, and its interval."""
    if isinstance(measure.found, Undefined):
        yield skipped(measure.name, measure.found.reason)
        return
    least = measure.bound if measure.more_is_better else None
    most = measure.bound if measure.more_is_better is False else None
    yield row(measure.name, measure.found.value, "share", at_least=least, at_most=most)
    yield row(f"{measure.name}: 95 %, from", measure.found.interval.low, "share")
    yield row(f"{measure.name}: 95 %, to", measure.found.interval.high, "share")
