"""Ledger operations of bridges: take in, assign, publish, and recover."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from headrace_workers.core.ledger import (
    accounting,
    claim,
    consume,
    duties,
    held_steps,
    incidents,
    job_lookup,
    leases,
    outbox,
    positions,
    prune,
    readers,
    recover,
    units,
    unrun,
)
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.engines import Engines
from headrace_workers.core.sql.transactions import durable, reads, reads_volatile, single_read, volatile

_EXPIRED_AT_ONCE = 5_000  # jobs, in several transactions


class ForBridges(Engines):
    """The part of a `Ledger` that bridges use. Each method is a transaction, or a few."""

    ingest = durable(consume.consume)
    share = volatile(readers.share)
    leave = volatile(readers.leave)
    full_positions = reads(positions.read)
    go_back = durable(positions.go_back)
    report_lost = durable(positions.report_lost)
    note_read = volatile(positions.note_read)
    positions = reads(positions.positions)
    release_unstarted = volatile(leases.release_unstarted)
    release = volatile(leases.release)
    look = volatile(leases.look)
    published = volatile(outbox.remove)
    set_aside = durable(outbox.set_aside)
    outbox = single_read(outbox.peek)
    follow = volatile(units.follow)
    jobs_of = reads(job_lookup.jobs_of)
    hold = volatile(duties.hold)
    lay_down = volatile(duties.lay_down)
    tell = volatile(incidents.tell)
    due = reads_volatile(recover.due)
    withhold_late = durable(held_steps.withhold_late)
    waits = reads_volatile(unrun.waits)
    account = volatile(accounting.account_settled)
    prune = volatile(prune.prune)

    def claim(self, wanted: Sequence[claim.Wanted], *, lease_ms: int, sender: str) -> claim.Claimed:
        """Claim the most urgent groups of each wanted queue and lane."""
        heads = claim.heads(self._single, wanted)
        if not heads:
            return claim.Claimed()  # mostly there is nothing, and no lock was needed to see that
        with writing(self._volatile) as tx:
            return claim.claim(tx, wanted, heads, lease_ms=lease_ms, sender=sender)

    def reap(self, max_crashes: int) -> recover.Reaped:
        """Take back what leases that ran out held, end what expired, and make ready what was delayed."""
        for feature in hooks():
            if feature.on_reap is not None:
                with writing(self._engine) as tx:
                    feature.on_reap(tx)
        with writing(self._engine) as tx:
            promoted = recover.promote(tx)
        with writing(self._engine) as tx:
            promoted += recover.wake_missed(tx)
        with writing(self._engine) as tx:
            promoted += recover.retry_held(tx)
        expired, some = 0, 1
        while some and expired < _EXPIRED_AT_ONCE:
            with writing(self._engine) as tx:
                some = recover.expire(tx)
            expired += some
        with writing(self._engine) as tx:
            return replace(recover.reap(tx, max_crashes), promoted=promoted, expired=expired, more=some > 0)

    def move_on(
        self, stage: str, queue: str, where: Callable[[Any], unrun.Move | unrun.Stay | None], reason: str
    ) -> int:
        """Move the steps of a stage that no worker begins in this queue to the place that `where` returns; return how
        many moved. The steps that stay get the reason.
        """
        with writing(self._engine) as tx:
            unrun.take_back(tx, queue)
        with writing(self._engine) as tx:
            found = [where(row) for row in unrun.ready(tx, stage, queue, reason)]
            moves = [each for each in found if isinstance(each, unrun.Move)]
            unrun.move(tx, stage, moves)
            unrun.stay(tx, stage, [each for each in found if isinstance(each, unrun.Stay)], reason)
        return len(moves)
