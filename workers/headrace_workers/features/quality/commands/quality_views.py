"""Views of the quality of verdicts: a table, words below it, and JSON. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from headrace_workers.cli import pages
from headrace_workers.cli.output import Rows, table
from headrace_workers.cli.pages import Section, Table, page
from headrace_workers.features.quality.assessment import Assessment, Subject
from headrace_workers.features.quality.store import Verdict
from headrace_workers.stats.detection_rates import DetectionRates
from headrace_workers.stats.estimates import Estimate, Undefined
from headrace_workers.stats.ppi import Corrected
from headrace_workers.stats.reliability import Reliability

_NONE: Final = "–"
_RATES: Final = ("precision", "recall", "f1", "benign_false_positives")
_WORDS: Final = {
    "kappa": "κ",
    "among_people": "α among people",
    "benign_false_positives": "benign false positives",
    "mean": "true mean",
}
_COLUMNS: Final = (
    "tenant", "of", "labels", "verdicts", "both", "agreement", "κ", "precision", "recall", "people's mean", "ECE",
)  # fmt: skip
Found = tuple[str, Subject, Assessment]


def drawn(found: Sequence[Found]) -> Rows:
    """Return a row for each criterion and category."""
    return table(None, _COLUMNS, [_row(*row) for row in found], right=("labels", "verdicts", "both", "ECE"))


def cells(tenant: str, subject: Subject, of: Assessment) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the columns, and the cells of this row."""
    return _COLUMNS, _row(tenant, subject, of)


def words(tenant: str, subject: Subject, of: Assessment) -> Iterator[str]:
    """Return what the table has no room for, and why numbers are missing; each reason once."""
    yield f"{tenant}, {_name(subject)}:"
    if isinstance(of.mean, Corrected):
        yield f"  people would say {of.mean.words}"
    if of.not_judged:
        counts = sorted(of.not_judged.items(), key=lambda each: (-each[1], each[0]))
        yield f"  not judged: {', '.join(f'{code} {count:,}' for code, count in counts)}"
    if of.missing:
        counts = sorted(of.missing.items(), key=lambda each: (-each[1], each[0]))
        yield f"  drawn for review and not labelled: {', '.join(f'{count:,} {state}' for state, count in counts)}"
    if of.bounds is not None:
        yield f"  if people found all of these wrong, or all right: {of.bounds.low:.3f} to {of.bounds.high:.3f}"
    if of.contested:
        yield f"  of {of.contested:,} jobs people said both"
    if not isinstance(of.among_people, Undefined):
        yield f"  α among {of.people:,} people: {_estimate(of.among_people)}"
    if not isinstance(of.drift, Undefined):
        yield f"  {of.drift.words}"
    if isinstance(of.reliability, Reliability):
        yield f"  ECE {of.reliability.ece:.3f}; by chance alone it would be {of.reliability.if_calibrated:.3f}"
    missing: dict[str, list[str]] = {}
    for name, value in _numbers(of).items():
        if isinstance(value, Undefined):
            missing.setdefault(value.reason, []).append(_WORDS.get(name, name))
    for reason, names in missing.items():
        yield f"  no {', '.join(names)}: {reason}"


def strange(tenant: str, labelled: Iterable[tuple[str, str]], verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Return the labelled names that occur in no verdict of this tenant: they may be misspelt."""
    for kind, about in sorted({*labelled} - {(verdict.kind, verdict.about) for verdict in verdicts}):
        yield (
            f"{tenant}: people label the {kind} {about!r}, and no verdict is about it: labels name it as receipts do "
            "(`headrace status JOB --json`)"
        )


def document(tenant: str, subject: Subject, of: Assessment) -> dict[str, Any]:
    """Return everything for `--json`. A number that cannot be computed is an object with its `reason`."""
    return {
        "tenant": tenant,
        subject.kind: subject.about,
        "version": subject.version,
        "labels": of.labels,
        "jobs_labelled": of.items_labelled,
        "people": of.people,
        "verdicts": of.verdicts,
        "jobs_with_both": of.both,
        "contested": of.contested,
        "not_judged": dict(of.not_judged),
        "missing": dict(of.missing),
        "bounds": None if of.bounds is None else asdict(of.bounds),
        **{name: asdict(value) for name, value in _numbers(of).items()},
    }


def _numbers(of: Assessment) -> dict[str, Any]:
    rates = {name: getattr(of.rates, name) if isinstance(of.rates, DetectionRates) else of.rates for name in _RATES}
    return {
        "agreement": of.agreement,
        "kappa": of.kappa,
        "among_people": of.among_people,
        **rates,
        "mean": of.mean,
        "reliability": of.reliability,
        "drift": of.drift,
    }


def _row(tenant: str, subject: Subject, of: Assessment) -> tuple[str, ...]:
    precision, recall = (of.rates.precision, of.rates.recall) if isinstance(of.rates, DetectionRates) else (None, None)
    ece = f"{of.reliability.ece:.3f}" if isinstance(of.reliability, Reliability) else _NONE
    return (
        tenant, _name(subject), f"{of.labels:,}", f"{of.verdicts:,}", f"{of.both:,}", _estimate(of.agreement),
        _estimate(of.kappa), _estimate(precision), _estimate(recall), _mean(of.mean), ece,
    )  # fmt: skip


def _name(subject: Subject) -> str:
    return f"{subject.kind} {subject.about}" + (f" ({subject.version})" if subject.version else "")


def _estimate(of: Estimate | Undefined | None) -> str:
    return f"{of.value:.2f} ({of.interval.low:.2f} to {of.interval.high:.2f})" if isinstance(of, Estimate) else _NONE


def _mean(of: Corrected | Undefined) -> str:
    if isinstance(of, Undefined):
        return _NONE
    return f"{of.value:.3f} ({of.interval.low:.3f} to {of.interval.high:.3f})"


_TITLE: Final = "How far verdicts can be trusted"
_ABOUT: Final = (
    "Points: verdicts of about the same score, and the share that people found correct. On the diagonal scores mean "
    "what they say; points far from it by chance alone are few where the ECE is near what chance would make."
)
_TRUE: Final = pages.Line("a score that means what it says", ((0.0, 0.0), (1.0, 1.0)))


def quality_page(found: Sequence[Found]) -> str:
    """Return an HTML page with a part for each criterion and category."""
    return page(_TITLE, _ABOUT, (), [_section(row) for row in found])


def _section(found: Found) -> Section:
    _, _, of = found
    title, *notes = [line.strip() for line in words(*found)]
    columns, row = cells(*found)
    tables, drawn = [Table(columns, [row])], []
    if isinstance(of.reliability, Reliability):
        drawn.append(_diagram(of.reliability))
        tables.append(_points(of.reliability))
    return Section(title.rstrip(":"), notes, drawn, tables)


def _diagram(of: Reliability) -> str:
    """Draw the stated P(correct) against what people found."""
    axis = pages.Axis("P(correct), as it was said", 0.0, 1.0, pages.percent)
    seen = pages.Axis("found correct", 0.0, 1.0, pages.percent)
    points = [(point.said, point.seen.value) for point in of.points]
    return pages.lines("Reliability", axis, seen, [pages.Line("found correct", points), _TRUE])


def _points(of: Reliability) -> Table:
    rows = [
        (
            f"{point.said:.2f}",
            f"{point.seen.value:.2f}",
            f"{point.seen.interval.low:.2f} to {point.seen.interval.high:.2f}",
        )
        for point in of.points
    ]
    return Table(("said", "found correct", "interval"), rows, right=("said", "found correct"))
