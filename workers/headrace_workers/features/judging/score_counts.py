"""Counts of scores in `headrace status` and in `/metrics`."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import Metric
from sqlalchemy import Connection, Row

from headrace_workers.cli.status_views import StatusPart
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.metrics import counter
from headrace_workers.features.judging.store import ScoreCounts, counts


def status_of_scores(ledger: Ledger) -> StatusPart:
    """Return the scores that were counted. Unavailable with the ledger."""
    counts = ledger.of(ScoreCounts).all()
    return StatusPart(
        name="scores",
        items=[row._asdict() for row in counts],
        title="scores",
        columns=("criterion", "with a value", "not judged", "by why"),
        rows=_rows(counts),
        right=("with a value", "not judged"),
    )


def _rows(counts: Iterable[Row[Any]]) -> list[tuple[str, ...]]:
    """Return a row for each kind of criterion; the reasons why there is no value, the most frequent first."""
    kinds: dict[str, dict[str, int]] = {}
    for row in counts:
        kinds.setdefault(row.criterion, {})[row.not_judged] = row.scores
    rows: list[tuple[str, ...]] = []
    for kind, of_kind in kinds.items():
        lacking = sorted(((n, code) for code, n in of_kind.items() if code), reverse=True)
        codes = ", ".join(f"{code} {n:,}" for n, code in lacking)
        rows.append((kind, f"{of_kind.get('', 0):,}", f"{sum(n for n, _ in lacking):,}", codes or "–"))
    return rows


def metrics_of_scores(connection: Connection) -> Iterator[Metric]:
    """Return the scores of ended jobs, by kind of criterion, and by the code of why there is no value ("": there is
    one). They are counted a few minutes after the ends, once, and all gateways show the same.
    """
    yield counter(
        "headrace_scores",
        "Scores of ended jobs. not_judged is the code of why there is no value, or empty.",
        ("criterion", "not_judged"),
        ((row.criterion, row.not_judged, row.scores) for row in counts(connection)),
    )
