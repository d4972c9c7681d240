"""One allowance for being wrong, spent on claims whose number nobody knows beforehand."""


def spend(alpha: float, number: int) -> float:
    """Return the part of `alpha` for the claim with this number (from 1, in the order in which claims arise).

    α / (k·(k + 1)): however many there will be, their sum is below α. So a claim about all scopes is false in at most a
    share α of worlds, if the k-th scope uses the k-th part.
    """
    if number < 1:
        raise ValueError(f"claims are numbered from 1, not {number}")
    return alpha / (number * (number + 1))
