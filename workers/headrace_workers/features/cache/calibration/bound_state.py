"""The state of a scope's error bound: not yet shown, holds, or broken; with the figures, in a sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace_workers.features.cache.calibration.error_bounds import Bound, Stratum, served_error
from headrace_workers.features.cache.calibration.spending import spend

WINDOW: Final = 200  # audits


class State(StrEnum):
    """The state of the error bound of a scope's serves."""

    NOT_YET_SHOWN = "not yet shown"
    HOLDS = "holds"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Recent:
    """The strata of the newest window alone: `served` and audits since it began. `number` counts windows from 1."""

    number: int
    strata: Sequence[Stratum]


@dataclass(frozen=True, slots=True)
class Standing:
    """A scope's state, the sentence that says why, the bound over all time, and that of the newest window alone."""

    state: State
    sentence: str
    bound: Bound
    recent: Bound | None


def window_of(audits_before: int) -> int:
    """Return the number of the window of the next audit. Windows lie end to end, so none is chosen afterwards."""
    return audits_before // WINDOW + 1


def clean_audits_needed(max_error: float, alpha: float = 0.05) -> int:
    """Return how many clean audits it takes to show a bound, by any method: 299 for 1 % at 95 %.

    (1 − max_error)ⁿ ≤ α.
    """
    return math.ceil(math.log(alpha) / math.log1p(-max_error))


def standing(
    strata: Sequence[Stratum], max_error: float, *, recent: Recent | None = None, alpha: float = 0.05
) -> Standing:
    """Return the standing of `max_error`, the largest share of wrong answers among those served, by the audits so far.

    It may be asked after every audit. A scope that errs too often is ever told `holds` in at most a share `alpha` of
    worlds, and one that errs less is ever told `broken` in at most a share `alpha`: half of that for all time, half
    shared by the windows, which see a drift that a long good past would hide. Labels that say wrong break a scope,
    doubt does not; but `holds` is said only where it would hold with every undecided audit wrong. The caller keeps the
    tier off after `broken`: later audits may say otherwise. Raises ValueError for a max_error that is no share.
    """
    if not 0.0 < max_error < 1.0:
        raise ValueError(f"max_error is a share between 0 and 1, not {max_error}")
    bound = served_error(strata, alpha)
    newest = served_error(recent.strata, alpha) if recent is not None else None
    accusation = _accusation(strata, recent, max_error, alpha)
    if accusation is not None:
        return Standing(State.BROKEN, accusation, bound, newest)
    if bound.upper_if_unknown_wrong <= max_error:
        return Standing(State.HOLDS, _holds(bound, max_error), bound, newest)
    return Standing(State.NOT_YET_SHOWN, _not_yet(bound, max_error, alpha), bound, newest)


def _accusation(strata: Sequence[Stratum], recent: Recent | None, max_error: float, alpha: float) -> str | None:
    always = served_error(strata, alpha / 2)
    if always.lower > max_error:
        return _broken(always, max_error, "audits")
    if recent is not None:
        newest = served_error(recent.strata, spend(alpha / 2, recent.number))
        if newest.lower > max_error:
            return _broken(newest, max_error, "audits of the newest window")
    return None


def _broken(bound: Bound, max_error: float, which: str) -> str:
    return (
        f"Broken: {bound.wrong:,} of {bound.audits:,} {which} were wrong, so at least {_percent_down(bound.lower)} of "
        f"what was served is, and {_percent_up(max_error)} is allowed. The semantic tier of this scope is off."
    )


def _holds(bound: Bound, max_error: float) -> str:
    undecided = f", {bound.unknown:,} undecided and taken for wrong" if bound.unknown else ""
    return (
        f"Holds: at most {_percent_up(bound.upper_if_unknown_wrong)} of what was served is wrong, and "
        f"{_percent_up(max_error)} is allowed ({bound.audits:,} audits, {bound.wrong:,} wrong{undecided})."
    )


def _not_yet(bound: Bound, max_error: float, alpha: float) -> str:
    needed = clean_audits_needed(max_error, alpha)
    if bound.clean < needed:
        sentence = f"Not yet shown: {bound.clean:,} clean audits of the {needed:,} that it takes at least"
    else:
        sentence = (
            f"Not yet shown: at most {_percent_up(bound.upper)} is wrong, and {_percent_up(max_error)} is allowed"
        )
    sentence += f" ({bound.audits:,} audits, {bound.wrong:,} wrong)."
    if bound.unknown:
        sentence += (
            f" {bound.unknown:,} wait for a person's label (`headrace cache label`): were all of them wrong, at most "
            f"{_percent_up(bound.upper_if_unknown_wrong)} would be."
        )
    return sentence


def _percent_up(share: float) -> str:
    """Return a percentage with two places at most, rounded up: an upper bound must not look smaller than it is."""
    return f"{math.ceil(round(share * 1e4, 6)) / 100:g} %"


def _percent_down(share: float) -> str:
    return f"{math.floor(round(share * 1e4, 6)) / 100:g} %"
