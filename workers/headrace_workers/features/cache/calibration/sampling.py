"""The random choice of serves to audit: by a hash of the serve's id, so that nobody makes it and it can be repeated."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

# The lowest similarity of each stratum; the first stratum also takes everything below it. Errors gather at low
# similarities.
BANDS: Final = (0.90, 0.94, 0.97, 0.99)
_TWICE: Final = 0.2  # of audits


def band(similarity: float, bands: Sequence[float] = BANDS) -> int:
    """Return the number of the stratum, from 0, of this similarity."""
    return max(0, bisect_right(bands, similarity) - 1)


def chosen(serve_id: str, share: float, purpose: str = "audit") -> bool:
    """Return True if this serve is in the `share` of all that are taken. The result is the same for an id everywhere.

    Uniform, and independent from one purpose to another. Who is taken at some share is taken at every larger one.
    """
    digest = blake2b(f"{purpose}\0{serve_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def twice(audit_id: str) -> bool:
    """Return True if the model answers this audit twice, to measure its agreement with itself."""
    return chosen(audit_id, _TWICE, "twice")


def audit_shares(served: Sequence[float], audits: float, least: float) -> list[float]:
    """Return the probability of an audit, by stratum, so that about `audits` of all serves are audited.

    `served` is how many serves each stratum is expected to have in the time for which there are that many audits. Equal
    shares make the bound on what is served tightest while audits are clean (then it is about log(1/α) times the largest
    ratio of serves to audits); yet each stratum gets `least` audits or, where it has fewer serves, all of them, so that
    rare ones are seen. Where even those are too many, all are cut by the same factor.
    """
    floors = [min(float(least), count) for count in served]
    needed = sum(floors)
    if needed >= audits:
        return [audits / needed * floor / count if count else 0.0 for floor, count in zip(floors, served, strict=True)]
    low, high = 0.0, 1.0
    for _ in range(60):  # the number of audits grows with the common share
        common = (low + high) / 2
        total = sum(max(floor, common * count) for floor, count in zip(floors, served, strict=True))
        low, high = (common, high) if total < audits else (low, common)
    # A stratum without serves yet takes whatever comes first.
    return [max(floor / count, high) if count else 1.0 for floor, count in zip(floors, served, strict=True)]
