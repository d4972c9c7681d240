"""The quality feature's part of `headrace status`: the pass rates that people would give."""

from typing import Any

from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.status_views import StatusPart
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.quality.store import PassRates


def pass_rates(ledger: Ledger) -> StatusPart:
    """Return the pass rates with their intervals, and how many labels and verdicts they rest on. Unavailable."""
    rates = ledger.of(PassRates).all()
    return StatusPart(
        name="pass_rates",
        items=[{**rate._asdict(), "computed_at": rfc3339(rate.computed_at)} for rate in rates],
        title="what people would say",
        columns=("tenant", "criterion", "version", "pass rate", "95 % interval", "labelled jobs", "verdicts"),
        rows=[_row(rate) for rate in rates],
        right=("pass rate", "95 % interval", "labelled jobs", "verdicts"),
    )


def _row(rate: Any) -> tuple[str, ...]:
    return (
        rate.tenant,
        rate.criterion,
        rate.version or "–",
        f"{rate.value:.3f}",
        f"{rate.low:.3f} to {rate.high:.3f}",
        f"{rate.labels:,}",
        f"{rate.verdicts:,}",
    )
