"""The ledger: every accepted job and its state. Each method is one transaction of a module in this folder.

The methods that bridges use are in `for_bridges.py`. Read a feature's tables through its store: `ledger.of(Batches)`.

Errors: `Unavailable` when the database does not answer. You may retry every call: a transaction happened whole or not
at all, and a repeated one changes nothing.
"""

from functools import cached_property
from typing import Any

from sqlalchemy import Engine, Row, select

from headrace_workers.core.ledger import (
    accepted,
    cancellation,
    changes,
    complete,
    counts,
    followers,
    held_steps,
    incidents,
    job_lookup,
    job_status,
    known_costs,
    leases,
    outbox,
    pressure,
    recover,
    repetitions,
    replay,
    start,
)
from headrace_workers.core.ledger.deployment import Deployment
from headrace_workers.core.ledger.for_bridges import ForBridges
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import now_ms, reading
from headrace_workers.core.sql.engines import Engines
from headrace_workers.core.sql.transactions import durable, reads, single_durable, single_volatile, volatile
from headrace_workers.core.tables import IDENTITY

_NOW = select(now_ms())


class ForGateways(Engines):
    """The part of a `Ledger` that gateways use. Each method is one transaction."""

    reserve = durable(accepted.reserve)
    confirm_admission = single_durable(accepted.confirm)
    withdraw_admission = single_durable(accepted.withdraw)
    look_for = reads(job_status.look)
    standings = reads(job_status.standings)
    pressure = reads(pressure.pressure)
    cancel_all = durable(cancellation.cancel)


class ForWorkers(Engines):
    """The part of a `Ledger` that workers use."""

    renew = volatile(leases.renew)
    leased_jobs = reads(leases.leased_jobs)
    complete_together = durable(complete.complete_together)
    complete = durable(complete.complete)
    give_back = durable(recover.give_back)
    acquit = volatile(leases.acquit)
    learn_costs = durable(known_costs.learn)
    horizon = reads(changes.horizon)
    followed = single_volatile(followers.tell)
    start = single_volatile(start.start)


class ForPeople(Engines):
    """The part of a `Ledger` that the command line uses, and other readers. Each method is one transaction."""

    open_incidents = reads(incidents.open_incidents)
    aside = reads(outbox.aside)
    retry_outbox = durable(outbox.retry)
    drop_outbox = durable(outbox.drop)
    cancel = durable(cancellation.cancel_one)
    dead = reads(replay.find)
    replay = durable(replay.replay)
    held_of = reads(held_steps.of_job)
    release_held = durable(held_steps.release_held)
    withhold = durable(held_steps.withhold)
    held = reads(held_steps.held)
    active_jobs = reads(counts.active_jobs)
    ended_jobs = reads(counts.ended_jobs)
    overview = reads(counts.overview)
    job = reads(job_lookup.job)
    units_of = reads(job_lookup.units_of)
    named = reads(job_lookup.named)
    terminals = reads(job_lookup.terminals)
    conflict_reasons = reads(repetitions.conflict_reasons)


class Ledger(ForBridges, ForWorkers, ForGateways, ForPeople):
    """The jobs and their state. Thread-safe; must not be carried over a fork (call `close` in the parent before)."""

    def __init__(self, engine: Engine, volatile: Engine | None = None) -> None:
        hooks()  # so that no transaction waits until a feature is imported
        super().__init__(engine, volatile)

    def now(self) -> int:
        """Return the time by the database's clock, in ms since 1970."""
        ((now,),) = self._single.rows(_NOW, {})
        return int(now)

    @cached_property
    def identity(self) -> str:
        """Return the id of this ledger: no two have the same."""
        with reading(self._engine) as tx:
            return str(tx.execute(select(IDENTITY.c.id)).scalar_one())

    def read(self, query: Any) -> list[Row[Any]]:
        """Return the rows of a query of the caller's own: for checks and reports."""
        with reading(self._engine) as tx:
            return list(tx.execute(query).all())

    @cached_property
    def deployment(self) -> Deployment:
        """Return the deployment whose topics and Kafka cluster it belongs to."""
        return Deployment(self._engine)
