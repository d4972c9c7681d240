"""The stage that delivers webhooks. The ledger alone keeps the outcome of each attempt."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from headrace_schemas import Category
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.ledger.outcome import Dead, Done, Dropped, Outcome, Retry, Signal, Wait
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.stage import RetrySchedule, Stage, Weight
from headrace_workers.core.pipeline.task import Unit
from headrace_workers.features.webhooks.registering import signing_keys
from headrace_workers.features.webhooks.sender import Letter, Reply, Sender
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.store.deliveries import STAGE, Due, Tried
from headrace_workers.features.webhooks.store.endpoints import Endpoint, Health
from headrace_workers.features.webhooks.store.webhooks import Webhooks

# The health of an endpoint after some attempts: paused for a while, or disabled. Pure.
#
# A circuit breaker (Nygard, "Release It!"): after five failures in a row nothing is sent for ten seconds; then one
# letter tries, and the others follow only when it was taken. Each further failure doubles the pause, up to ten minutes.

PATIENCE: Final = 5  # failures in a row
_FIRST_PAUSE_MS: Final = 10_000
_LONGEST_PAUSE_MS: Final = 600_000
_LONGEST_WISH_MS: Final = 3_600_000  # that a receiver's Retry-After holds back its other letters
_GIVEN_UP_MS: Final = 5 * 86_400_000


def health_after(health: Health, replies: Sequence[Reply], now: int) -> Health:
    """The health that follows from these replies, in the order in which they were given. `now` is in ms."""
    for reply in replies:
        if not reply.hopeless:  # a wrong URL of a callback says nothing about the receiver
            health = _health_after_one(health, reply, now)
    return health


def _health_after_one(health: Health, reply: Reply, now: int) -> Health:
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


_SOON = 1.0  # seconds, where the ledger did not answer
_LATER = 60.0  # where a person has to mend something
_KEPT_OFF = 5.0  # where the receiver is silent about others; its next answer wakes them


def deliver(units: Sequence[Unit], *, webhooks: Webhooks, sender: Sender, sealer: Sealer) -> list[Outcome]:
    """Send each delivery to its endpoint; the i-th outcome belongs to the i-th unit.

    A delivery that waits because its receiver is spared for a while costs no attempt.
    """
    outcomes: dict[str, Outcome] = {}
    for endpoint_id in dict.fromkeys(unit.endpoint for unit in units):
        mine = [unit for unit in units if unit.endpoint == endpoint_id]
        outcomes |= _Desk(endpoint_id, webhooks, sender, sealer).deliver(mine)
    return [outcomes[unit.id] for unit in units]


@dataclass(frozen=True, slots=True)
class _Desk:
    """The deliveries of one claim to one endpoint."""

    id: str
    webhooks: Webhooks
    sender: Sender
    sealer: Sealer

    def deliver(self, units: Sequence[Unit]) -> Mapping[str, Outcome]:
        try:
            tenant = units[0].tenant
            endpoint, due, now = self.webhooks.due(self.id, tenant, [unit.id for unit in units])
            if endpoint is None or endpoint.tenant != tenant:
                return _all(units, Dropped(f"the tenant has no endpoint {self.id}"))
            if endpoint.disabled is not None:
                return _all(units, _disabled(self.id, endpoint.disabled))
            if (pause := _pause(endpoint.health, now)) > 0:
                return {unit.id: self._spared(pause) for unit in units}
            keys = signing_keys(endpoint, self.webhooks, self.sealer, now)
        except Unavailable as error:
            return _all(units, Wait(Signal(self.id), str(error), at_most=_SOON))
        except ConfigurationError as error:
            log("deliver", logging.ERROR, Action.UNSENT, str(error), endpoint=self.id)
            return _all(units, Wait(Signal(self.id), str(error), at_most=_LATER))
        return self._send(endpoint, units, due, keys, now)

    def _send(
        self, endpoint: Endpoint, units: Sequence[Unit], due: Mapping[str, Due], keys: tuple[str, ...], now: int
    ) -> Mapping[str, Outcome]:
        # Those that were tried least go first: one alone probes, and none is to use up its attempts for the others.
        least = sorted(units, key=lambda unit: unit.attempt)
        letters = [Letter(each.id, each.url, each.body, keys) for unit in least if (each := due.get(unit.id))]
        probing = endpoint.failures >= PATIENCE
        replies = dict(
            zip(
                (letter.id for letter in letters),
                self.sender.send(self.id, letters, probing=probing, patience=_patience(endpoint.failures)),
                strict=True,
            )
        )
        stands = self._note(endpoint, {name: reply for name, reply in replies.items() if reply is not None})
        # One that is not known any more was forgotten: nobody waits for it.
        return {
            unit.id: self._outcome(replies[unit.id], stands, now) if unit.id in replies else Done() for unit in units
        }

    def _note(self, endpoint: Endpoint, replies: Mapping[str, Reply]) -> Health:
        """Write what came of these; how the endpoint stands then."""
        tries = [Tried(name, reply.ms, reply.status, reply.error, reply.text) for name, reply in replies.items()]
        if not tries:
            return endpoint.health
        wake = any(reply.taken for reply in replies.values()) and self.sender.others_wait(self.id)
        try:
            judged = self.webhooks.note(
                self.id, tries, lambda health, now: health_after(health, list(replies.values()), now), wake=wake
            )
        except Unavailable:  # what is lost is what people would read; the outcome is written when it answers again
            return endpoint.health
        if judged is None:
            return endpoint.health
        before, stands = judged
        if before.disabled is None and stands.disabled is not None:
            log("deliver", logging.WARNING, Action.ENDPOINT_DISABLED, f"an endpoint was disabled: {stands.disabled}",
                endpoint=self.id, tenant=endpoint.tenant)  # fmt: skip
        return stands

    def _outcome(self, reply: Reply | None, stands: Health, now: int) -> Outcome:
        if reply is None:
            if stands.disabled is not None:
                return _disabled(self.id, stands.disabled)
            return self._spared(pause) if (pause := _pause(stands, now)) > 0 else self._kept_off()
        if reply.error is None:
            return Done()
        if reply.gone and stands.disabled is not None:
            return _disabled(self.id, stands.disabled)
        if reply.hopeless or reply.gone:
            return Dead(Category.PERMANENT, reply.error)
        return Retry(reply.error, after=reply.after or 0.0)

    def _spared(self, pause: float) -> Wait:
        """Postpone a delivery. Retries come back at different times, and at once when the endpoint is well."""
        seconds = max(_SOON, pause) * random.uniform(1.0, 2.0)
        return Wait(Signal(self.id), "its receiver took nothing lately, and is spared for a while", at_most=seconds)

    def _kept_off(self) -> Wait:
        """Postpone a delivery while the endpoint has not answered others: if it hangs, it occupies one thread of this
        worker.
        """
        return Wait(
            Signal(self.id),
            "its receiver has not answered an earlier one yet",
            at_most=_KEPT_OFF * random.uniform(1.0, 2.0),
        )


def _all(units: Sequence[Unit], outcome: Outcome) -> dict[str, Outcome]:
    return dict.fromkeys((unit.id for unit in units), outcome)


def _disabled(endpoint_id: str, why: str) -> Dropped:
    return Dropped(
        f"its endpoint is disabled: {why}; after `headrace webhooks update {endpoint_id} --enabled`, "
        f"`headrace webhooks replay {endpoint_id}` sends it again"
    )


def _pause(health: Health, now: int) -> float:
    """Return the seconds for which nothing is sent."""
    return 0.0 if health.paused_until is None else max(0.0, (health.paused_until - now) / 1000)


def _patience(failures: int) -> int:
    """Return how many more failures in a row are allowed."""
    return max(1, PATIENCE - failures)


# Seconds from each attempt to the next, 75 hours and a half in all, so that a receiver that is away for a long weekend
# misses nothing.
DELAYS: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)

DELIVER: Final = Stage(
    name=STAGE,
    order=100,
    step=deliver,
    weight=Weight.IO,
    needs=("webhooks", "sender", "sealer"),
    retry=RetrySchedule(delays=DELAYS),
    concurrency=64,
)
