"""The health of an endpoint after some attempts: paused for a while, or disabled. Pure.

A circuit breaker (Nygard, "Release It!"): after five failures in a row nothing is sent for ten seconds; then one letter
tries, and the others follow only when it was taken. Each further failure doubles the pause, up to ten minutes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from headrace_workers.features.webhooks.sender import Reply
from headrace_workers.features.webhooks.store.endpoints import Health

PATIENCE: Final = 5  # failures in a row
_FIRST_PAUSE_MS: Final = 10_000
_LONGEST_PAUSE_MS: Final = 600_000
_LONGEST_WISH_MS: Final = 3_600_000  # that a receiver's Retry-After holds back its other letters
_GIVEN_UP_MS: Final = 5 * 86_400_000


def after(health: Health, replies: Sequence[Reply], now: int) -> Health:
    """The health that follows from these replies, in the order in which they were given. `now` is in ms."""
    for reply in replies:
        if not reply.hopeless:  # a wrong URL of a callback says nothing about the receiver
            health = _after(health, reply, now)
    return health


def _after(health: Health, reply: Reply, now: int) -> Health:
    if reply.taken:
        # What it asked for holds: this one was on its way beside the letter that it asked for it at.
        asked = health.pauses == 0 and (health.paused_until or 0) > now
        until = health.paused_until if asked else None
        return replace(health, failures=0, failing_since=None, pauses=0, paused_until=until)
    failures, since = health.failures + 1, now if health.failing_since is None else health.failing_since
    health = replace(health, failures=failures, failing_since=since)
    if reply.gone and health.registered:
        return replace(health, disabled="it answered 410: it wants nothing more")
    if now - since > _GIVEN_UP_MS:
        return replace(health, disabled="it took nothing for five days")
    if failures >= PATIENCE and (health.paused_until is None or health.paused_until <= now):
        pause = min(_LONGEST_PAUSE_MS, _FIRST_PAUSE_MS << min(health.pauses, 10))
        health = replace(health, pauses=health.pauses + 1, paused_until=now + pause)
    if reply.after is not None:
        wish = now + min(_LONGEST_WISH_MS, int(reply.after * 1000))
        health = replace(health, paused_until=max(wish, health.paused_until or 0))
    return health
