"""From the audits of a scope to how it stands. Pure, and dear: some 100 ms, so never in a look-up."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from headrace_workers.calibration.bounds import Bound, Stratum
from headrace_workers.calibration.curve import fit, threshold
from headrace_workers.calibration.spending import spend
from headrace_workers.calibration.state import Recent, State, standing
from headrace_workers.ledger.audit_rows import Pair, Tally, Window
from headrace_workers.ledger.standings import NOT_YET, OFF, ScopeStanding
from headrace_workers.ledger.standings import State as Told

# Decided audits of the first curve; each later one has twice as many. The k-th spends its part of alpha: that shrinks
# with k² while the audits double, so each can show what the one before it could.
_FIRST_FIT: Final = 500
_ALPHA: Final = 0.05
_TOLD: Final[dict[State, Told]] = {State.NOT_YET_SHOWN: NOT_YET, State.HOLDS: "shown", State.BROKEN: OFF}


def fit_due(before: ScopeStanding, tallies: Sequence[Tally]) -> bool:
    """Whether there are enough decided audits for another curve."""
    return sum(each.clean + each.wrong for each in tallies) >= _FIRST_FIT << before.fits


def judge(
    before: ScopeStanding,
    tallies: Sequence[Tally],
    window: Window,
    max_error: float,
    pairs: Sequence[Pair] | None = None,
) -> ScopeStanding:
    """How a scope stands after these audits; with `pairs` its curve is fitted anew. One that was off stays off."""
    recent = Recent(window.number, _strata(window.tallies)) if window.number > 1 else None
    now = standing(_strata(tallies), max_error, recent=recent, alpha=_ALPHA)
    least, fits = before.least, before.fits
    if pairs:
        fits += 1
        curve = fit([each.similarity for each in pairs], [each.correct for each in pairs], spend(_ALPHA, fits))
        least = threshold(curve, max_error)
    return ScopeStanding(
        scope=before.scope,
        tenant=before.tenant,
        state=_TOLD[now.state] if before.state != OFF else OFF,
        sentence=now.sentence if before.state != OFF else before.sentence,
        figures={
            "max_error": max_error,
            "served": sum(each.served for each in tallies),
            **_figures(now.bound),
            "recent": None if now.recent is None else _figures(now.recent),
        },
        least=least,
        fits=fits,
        since=before.since,
    )


def _strata(tallies: Sequence[Tally]) -> list[Stratum]:
    return [Stratum(each.served, each.clean, each.wrong, each.unknown) for each in tallies]


def _figures(bound: Bound) -> dict[str, Any]:
    return {**asdict(bound), "clean": bound.clean}
