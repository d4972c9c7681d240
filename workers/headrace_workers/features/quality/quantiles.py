"""Quantiles and tails of the normal and Student's distribution, by SciPy: imported when one is first asked for."""


def t_quantile(level: float, freedom: float) -> float:
    """Student's t, beyond which (on both sides together) lies 1 − `level`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1.0 + level) / 2.0))


def t_tail(statistic: float, freedom: float) -> float:
    """How likely a t as far from 0 as this one is, on either side, where the truth is 0."""
    from scipy.special import stdtr

    return float(2.0 * stdtr(freedom, -abs(statistic)))


def normal_quantile(level: float) -> float:
    """The normal's, on both sides together."""
    from scipy.special import ndtri

    return float(ndtri((1.0 + level) / 2.0))
