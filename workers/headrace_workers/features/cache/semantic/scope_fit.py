"""From the audits of a scope to how it stands. Pure, and expensive: some 100 ms, so never in a look-up."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from headrace_workers.features.cache.calibration.bound_state import Recent, State, standing
from headrace_workers.features.cache.calibration.curve import fit, threshold
from headrace_workers.features.cache.calibration.error_bounds import Bound, Stratum, served_error
from headrace_workers.features.cache.calibration.spending import spend
from headrace_workers.features.cache.store.audit_counts import OtherCounts, Pair, Tally, Window
from headrace_workers.features.cache.store.standings import NOT_YET, OFF, ScopeStanding
from headrace_workers.features.cache.store.standings import State as Told

# Decided audits of the first curve; each later one has twice as many. The k-th spends its part of alpha: that shrinks
# with k² while the audits double, so each can show what the one before it could.
_FIRST_FIT: Final = 500
_ALPHA: Final = 0.05
_TOLD: Final[dict[State, Told]] = {State.NOT_YET_SHOWN: NOT_YET, State.HOLDS: "shown", State.BROKEN: OFF}


def fit_due(before: ScopeStanding, tallies: Sequence[Tally], other_counts: OtherCounts = OtherCounts()) -> bool:  # noqa: B008 - a value
    """Return True if there are enough decided audits for another curve."""
    return sum(each.clean + each.wrong for each in tallies) + other_counts.below.decided >= _FIRST_FIT << before.fits


def judge(
    before: ScopeStanding,
    tallies: Sequence[Tally],
    window: Window,
    max_error: float,
    other_counts: OtherCounts = OtherCounts(),  # noqa: B008 - a value
    pairs: Sequence[Pair] | None = None,
) -> ScopeStanding:
    """Return the state of a scope after these audits; with `pairs` its curve is fitted anew. One that was off stays
    off.

    `other_counts` are reported, and change no state.
    """
    recent = Recent(window.number, _strata(window.tallies)) if window.number > 1 else None
    strata = _strata(tallies)
    now = standing(strata, max_error, recent=recent, alpha=_ALPHA)
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
            # At this claim's part of alpha: so all scopes' claims hold at once.
            "upper_among_all": served_error(strata, spend(_ALPHA, before.number)).upper_if_unknown_wrong,
            "strata": [[each.served, each.clean, each.wrong, each.unknown] for each in strata],
            "below": other_counts.below._asdict(),
            "refused": other_counts.refused._asdict(),
            "own": other_counts.own._asdict(),
        },
        least=least,
        fits=fits,
        since=before.since,
        number=before.number,
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """The statement about all scopes together: the error among all semantic hits, and how many scopes are shown to keep
    to their bound. Both may be looked at after every audit.
    """

    scopes: int
    shown: int
    served: int
    bound: Bound


def together(scopes: Sequence[ScopeStanding]) -> Whole | None:
    """All of these at once, as they were last judged; None where none was.

    The error of all is bounded as that of one is, with every stratum of every scope as a stratum of it: that needs no
    split of alpha. That some are `shown` is one claim for each, and the claims share alpha by their numbers: so all of
    them hold at once.
    """
    judged = [each.figures for each in scopes if each.figures.get("strata")]
    if not judged:
        return None
    strata = [Stratum(*counts) for figures in judged for counts in figures["strata"]]
    shown = sum(figures["upper_among_all"] <= figures["max_error"] for figures in judged)
    return Whole(len(judged), shown, sum(each.served for each in strata), served_error(strata, _ALPHA))


def _strata(tallies: Sequence[Tally]) -> list[Stratum]:
    return [Stratum(each.served, each.clean, each.wrong, each.unknown) for each in tallies]


def _figures(bound: Bound) -> dict[str, Any]:
    return {**asdict(bound), "clean": bound.clean}
