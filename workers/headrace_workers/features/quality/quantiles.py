"""Quantiles and tails of the normal and Student's distribution, by SciPy: imported when one is first asked for."""


def t_quantile(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t: 1 − `level` lies beyond it on both sides together."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1.0 + level) / 2.0))


def t_tail(statistic: float, freedom: float) -> float:
    """Return the two-sided p-value of Student's t."""
    from scipy.special import stdtr

    return float(2.0 * stdtr(freedom, -abs(statistic)))


def normal_quantile(level: float) -> float:
    """Return the two-sided quantile of the normal distribution."""
    from scipy.special import ndtri

    return float(ndtri((1.0 + level) / 2.0))
