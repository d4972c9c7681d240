"""Upper bounds of the share of wrong answers among served ones: from audits, stratum by stratum of similarity."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_workers.features.cache.calibration.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.features.cache.calibration.sequence import watched_lower, watched_upper


@dataclass(frozen=True, slots=True)
class Stratum:
    """The serves from one band of similarity, and the results of their audits.

    Within it each serve has the same chance to be audited; other strata may have another. Raises ValueError for counts
    that cannot be.
    """

    served: int
    clean: int
    wrong: int
    unknown: int = 0

    def __post_init__(self) -> None:
        if min(self.served, self.clean, self.wrong, self.unknown) < 0 or self.audits > self.served:
            raise ValueError(f"a stratum has at most as many audits as serves, and no negative counts: {self}")

    @property
    def audits(self) -> int:
        """All answers that were generated afresh, also the undecided ones."""
        return self.clean + self.wrong + self.unknown

    @property
    def decided(self) -> int:
        """The audits with a verdict."""
        return self.clean + self.wrong


@dataclass(frozen=True, slots=True)
class Bound:
    """The share of wrong answers among those served, in [0, 1]; counts are sums over strata.

    `upper` is about the audits with a verdict, and is the truth's bound only if the others err no more often.
    `upper_if_unknown_wrong` needs no such belief. `lower` takes the unknown for clean: only wrong labels accuse.
    Each of the three is one-sided, at the alpha asked for. `estimate` is None without a verdict.
    """

    estimate: float | None
    upper: float
    lower: float
    audits: int
    wrong: int
    unknown: int
    upper_if_unknown_wrong: float

    @property
    def clean(self) -> int:
        """The audits that agreed."""
        return self.audits - self.wrong - self.unknown


def served_error(strata: Sequence[Stratum], alpha: float = 0.05) -> Bound:
    """Return the error among serves, with bounds that may be looked at after every audit (see `sequence`).

    A stratum's error counts by its share of what was served, whatever share of it was audited. An error that changes in
    time is bounded in the mean; that mean is of audits, so a stratum whose chance to be audited changes begins anew.
    """
    shares = _shares(strata, alpha)
    wrong, decided, audits = _counts(strata)
    doubtful = [each.wrong + each.unknown for each in strata]
    if not strata:
        return _bound(strata, shares, 1.0, 0.0, 1.0)
    return _bound(
        strata,
        shares,
        watched_upper(shares, wrong, decided, alpha),
        watched_lower(shares, wrong, audits, alpha),
        watched_upper(shares, doubtful, audits, alpha),
    )


def served_error_at_once(strata: Sequence[Stratum], alpha: float = 0.05) -> Bound:
    """Return the error for audits that are looked at a single time, after a number fixed before.

    Clopper–Pearson per stratum, with an equal part of alpha each: for a report on given data. Looked at again and again
    it misses the truth far more often than `alpha` says.
    """
    shares = _shares(strata, alpha)
    part = alpha / max(1, len(strata))
    uppers = [clopper_pearson_upper(each.wrong, each.decided, part) for each in strata]
    lowers = [clopper_pearson_lower(each.wrong, each.audits, part) for each in strata]
    doubtful = [clopper_pearson_upper(each.wrong + each.unknown, each.audits, part) for each in strata]
    if not strata:
        return _bound(strata, shares, 1.0, 0.0, 1.0)
    return _bound(strata, shares, _weighted(shares, uppers), _weighted(shares, lowers), _weighted(shares, doubtful))


def _shares(strata: Sequence[Stratum], alpha: float) -> list[float]:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is a probability between 0 and 1, not {alpha}")
    served = sum(each.served for each in strata)
    # Nothing served: every stratum might be all that will be.
    return [each.served / served if served else 1.0 / len(strata) for each in strata]


def _counts(strata: Sequence[Stratum]) -> tuple[list[int], list[int], list[int]]:
    return [each.wrong for each in strata], [each.decided for each in strata], [each.audits for each in strata]


def _bound(
    strata: Sequence[Stratum], shares: Sequence[float], upper: float, lower: float, if_unknown_wrong: float
) -> Bound:
    seen = [(share, each.wrong / each.decided) for share, each in zip(shares, strata, strict=True) if each.decided]
    weight = sum(share for share, _ in seen)
    return Bound(
        estimate=sum(share * rate for share, rate in seen) / weight if weight else None,
        upper=min(1.0, upper),
        lower=max(0.0, lower),
        audits=sum(each.audits for each in strata),
        wrong=sum(each.wrong for each in strata),
        unknown=sum(each.unknown for each in strata),
        upper_if_unknown_wrong=min(1.0, if_unknown_wrong),
    )


def _weighted(shares: Sequence[float], rates: Sequence[float]) -> float:
    return sum(share * rate for share, rate in zip(shares, rates, strict=True))
