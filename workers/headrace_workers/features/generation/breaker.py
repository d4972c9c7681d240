"""The circuit breaker of a model: whether it may be asked, after what its last calls came to. Pure.

After five failures in a row it is open, and nobody asks the model for ten seconds; then it is half open, and one call
tries (Nygard, "Release It!"). A success closes it. Each further failure doubles the time, up to 15 seconds, so that
traffic returns soon after an outage. Each time is shortened by a random part of up to a half, so that probes do not
fall in step with what makes the model fail.
"""

from dataclasses import dataclass, replace
from typing import Final

PATIENCE: Final = 5  # failures in a row
FIRST_MS: Final = 10_000
LONGEST_MS: Final = 15_000
OTHERS_FIRST_MS: Final = 5_000  # at the end of a pause, in which only another tenant than the last may probe
LONGEST_WISH_MS: Final = 3_600_000  # that a provider may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """State of a breaker. Times are in ms by the ledger's clock.

    `failures` are those in a row, `openings` those since it was closed, `opened_at` is when that began. It is open
    until `open_until`, and longer while somebody probes until `probed_until`. The tenant that probed last, `probed_by`,
    lets others go first: its prompts may be what fails. `reason` is of the last failure.
    """

    failures: int = 0
    openings: int = 0
    opened_at: int | None = None
    open_until: int | None = None
    probed_until: int | None = None
    probed_by: str | None = None
    reason: str | None = None

    def state(self, now: int) -> str:
        """Return `closed`, `open` or `half_open`."""
        if self.open_until is None:
            return "closed"
        return "half_open" if self.open_until <= now else "open"

    def opens_in(self, now: int, tenant: str | None = None) -> int:
        """Return in how many ms somebody, or this tenant, may ask the model; 0 where it may be asked now."""
        if self.open_until is None:
            return 0
        since = self.open_until
        if tenant is not None and tenant == self.probed_by:
            since += OTHERS_FIRST_MS
        return max(0, since - now, (self.probed_until or 0) - now)


def after_success(_breaker: Breaker) -> Breaker:
    """Return the state of a breaker whose model answered: closed."""
    return Breaker()


def after_failure(
    breaker: Breaker, now: int, reason: str, *, probed: bool = False, until: int | None = None, jitter: float = 0.0
) -> Breaker:
    """Return the state of a breaker whose model failed: open where it failed often enough, or was only `probed`, or its
    provider named a time `until` which it takes no call. `jitter`, from 0 to 1, cuts a time that nobody named.

    A call that began before the breaker opened, and fails after that, opens it no longer.
    """
    breaker = replace(breaker, failures=breaker.failures + 1, reason=reason)
    if probed:
        breaker = replace(breaker, probed_until=None)
    elif breaker.open_until is not None:
        return breaker if until is None else _open(breaker, now, until)
    if until is not None:
        return _open(breaker, now, until)
    if probed or breaker.failures >= PATIENCE:
        pause = int(min(LONGEST_MS, FIRST_MS << min(breaker.openings, 10)) * (1 - jitter / 2))
        return _open(breaker, now, now + pause - (OTHERS_FIRST_MS if probed else 0))
    return breaker


def after_nothing(breaker: Breaker, now: int) -> Breaker:
    """Return the state of a breaker whose probe came to nothing, such as a cancelled job's: other tenants may probe."""
    if breaker.open_until is None:
        return breaker
    return replace(breaker, probed_until=None, open_until=max(breaker.open_until, now))


def _open(breaker: Breaker, now: int, until: int) -> Breaker:
    return replace(
        breaker,
        openings=breaker.openings + 1,
        opened_at=breaker.opened_at or now,
        open_until=max(breaker.open_until or 0, min(until, now + LONGEST_WISH_MS)),
    )
