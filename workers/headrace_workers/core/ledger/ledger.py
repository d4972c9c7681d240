"""The ledger: every accepted job and its state. Each method is one transaction of a module in this folder.

Read a feature's tables through its store: `ledger.of(Batches)`.

Errors: `Unavailable` when the database does not answer. You may retry every call: a transaction happened whole or not
at all, and a repeated one changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, select, update

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger import (
    accepted,
    accounting,
    cancellation,
    change_feed,
    claims,
    completion,
    counts,
    event_units,
    incidents,
    ingest,
    job_status,
    leases,
    outbox,
    positions,
    recovery,
    replay,
    unserved_steps,
)
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import clock, insert, now_ms, reading, writing
from headrace_workers.core.sql.store import (
    Engines,
    durable,
    reads,
    reads_volatile,
    single_durable,
    single_read,
    single_volatile,
    volatile,
)
from headrace_workers.core.tables import DEPLOYMENT, IDENTITY, POSITIONS, READERS


class Fact(StrEnum):
    """Property that identifies a deployment."""

    PREFIX = "prefix"
    CLUSTER = "cluster"


_DIFFERS = {
    Fact.PREFIX: "the ledger belongs to the topics that begin with {stated!r}, and HEADRACE_TOPIC_PREFIX is {found!r} "
    "here: correct HEADRACE_TOPIC_PREFIX or HEADRACE_LEDGER",
    Fact.CLUSTER: "the ledger belongs to the Kafka cluster {stated!r}, and HEADRACE_KAFKA leads to the cluster "
    "{found!r}: correct HEADRACE_KAFKA or HEADRACE_LEDGER",
}
_ON_PURPOSE = ". To move this ledger there on purpose, stop its processes and run `headrace ledger bind`"


class Deployment:
    """Deployment that a ledger belongs to, as the ledger states it. Thread-safe.

    A bridge of another deployment would take over duties of this one and publish its events where nobody waits for
    them. So the first bridge states what it is, and each process that is something else refuses to start.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stated(self) -> dict[Fact, str]:
        """Return the facts that are stated."""
        with reading(self._engine) as tx:
            return _stated(tx)

    def differs(self, fact: Fact, found: str) -> str | None:
        """Return in words how the ledger disagrees; None where it agrees, or states nothing of this."""
        stated = self.stated().get(fact)
        return None if stated in (None, found) else _DIFFERS[fact].format(stated=stated, found=found) + _ON_PURPOSE

    def require(self, fact: Fact, found: str) -> None:
        """Raise ConfigurationError where the ledger disagrees."""
        if reason := self.differs(fact, found):
            raise ConfigurationError(reason)

    def state(self, fact: Fact, found: str) -> None:
        """State this where nothing is stated yet. Raise ConfigurationError where the ledger disagrees."""
        if fact not in self.stated():
            with writing(self._engine) as tx:
                tx.execute(insert(tx, DEPLOYMENT).values(name=fact, value=found).on_conflict_do_nothing())
        self.require(fact, found)

    def restate(self, facts: Mapping[Fact, str]) -> dict[Fact, str]:
        """State these in place of what was; return that. Raise ConfigurationError while a bridge reads for it."""
        with writing(self._engine) as tx:
            living = select(READERS.c.name).where(READERS.c.lease_until > clock(tx)).order_by(READERS.c.name)
            if names := list(tx.execute(living).scalars()):
                raise ConfigurationError(f"the bridge {names[0]} runs with this ledger: stop all bridges first")
            before = _stated(tx)
            if before.get(Fact.CLUSTER, cluster := facts.get(Fact.CLUSTER)) != cluster:
                # What was read there says nothing of the logs here: they are read from their beginning, as is meant.
                tx.execute(update(POSITIONS).values(fingerprints="[]"))
            tx.execute(delete(DEPLOYMENT))
            for fact, value in facts.items():
                tx.execute(insert(tx, DEPLOYMENT).values(name=fact, value=value))
        return before

    def forget(self) -> None:
        """State nothing any more: the next bridge does."""
        if self.stated():
            with writing(self._engine) as tx:
                tx.execute(delete(DEPLOYMENT))


def _stated(connection: Connection) -> dict[Fact, str]:
    return {Fact(row.name): row.value for row in connection.execute(select(DEPLOYMENT))}


EXPIRED_AT_ONCE = 5_000  # jobs, in several transactions


class ForBridges(Engines):
    """The part of a `Ledger` that bridges use. Each method is a transaction, or a few."""

    ingest = durable(ingest.consume)
    share = volatile(positions.share)
    leave = volatile(positions.leave)
    full_positions = reads(positions.read)
    go_back = durable(positions.go_back)
    report_lost = durable(positions.report_lost)
    note_read = volatile(positions.note_read)
    note_ends = volatile(positions.note_ends)
    positions = reads(positions.positions)
    release_unstarted = volatile(leases.release_unstarted)
    release = volatile(leases.release)
    look = volatile(leases.look)
    published = volatile(outbox.remove)
    set_aside = durable(outbox.set_aside)
    outbox = single_read(outbox.peek)
    make_units = volatile(event_units.make_units)
    jobs_of = reads(job_status.jobs_of)
    hold = volatile(leases.hold_duty)
    lay_down = volatile(leases.lay_down_duty)
    tell = volatile(incidents.tell)
    due = reads_volatile(recovery.due)
    withhold_late = durable(recovery.withhold_late)
    waits = reads_volatile(unserved_steps.waits)
    account = volatile(accounting.account_settled)
    prune = volatile(recovery.prune)

    def claim(self, wanted: Sequence[claims.Wanted], *, lease_ms: int, sender: str) -> claims.Claimed:
        """Claim the most urgent groups of each wanted queue and lane."""
        heads = claims.heads(self._single, wanted)
        if not heads:
            return claims.Claimed()  # mostly there is nothing, and no lock was needed to see that
        with writing(self._volatile) as tx:
            return claims.claim(tx, wanted, heads, lease_ms=lease_ms, sender=sender)

    def reap(self, max_crashes: int) -> recovery.Reaped:
        """Take back what leases that ran out held, end what expired, and make ready what was delayed."""
        for feature in hooks():
            if feature.on_reap is not None:
                with writing(self._engine) as tx:
                    feature.on_reap(tx)
        with writing(self._engine) as tx:
            promoted = recovery.promote(tx)
        with writing(self._engine) as tx:
            promoted += recovery.wake_missed(tx)
        with writing(self._engine) as tx:
            promoted += recovery.retry_held(tx)
        expired, some = 0, 1
        while some and expired < EXPIRED_AT_ONCE:
            with writing(self._engine) as tx:
                some = recovery.expire(tx)
            expired += some
        with writing(self._engine) as tx:
            return replace(recovery.reap(tx, max_crashes), promoted=promoted, expired=expired, more=some > 0)

    def move_on(
        self,
        stage: str,
        queue: str,
        where: Callable[[Any], unserved_steps.Move | unserved_steps.Stay | None],
        reason: str,
    ) -> int:
        """Move the steps of a stage that no worker begins in this queue to the place that `where` returns; return how
        many moved. The steps that stay get the reason.
        """
        with writing(self._engine) as tx:
            unserved_steps.take_back(tx, queue)
        with writing(self._engine) as tx:
            found = [where(row) for row in unserved_steps.ready(tx, stage, queue, reason)]
            moves = [item for item in found if isinstance(item, unserved_steps.Move)]
            unserved_steps.move(tx, stage, moves)
            unserved_steps.stay(tx, stage, [item for item in found if isinstance(item, unserved_steps.Stay)], reason)
        return len(moves)


_NOW = select(now_ms())


class ForGateways(Engines):
    """The part of a `Ledger` that gateways use. Each method is one transaction."""

    reserve = durable(accepted.reserve)
    confirm_admission = single_durable(accepted.confirm)
    withdraw_admission = durable(accepted.withdraw)
    look_for = reads(job_status.look)
    standings = reads(job_status.standings)
    pressure = reads(counts.pressure)
    cancel_all = durable(cancellation.cancel)


class ForWorkers(Engines):
    """The part of a `Ledger` that workers use."""

    renew = volatile(leases.renew)
    leased_jobs = reads(leases.leased_jobs)
    complete_together = durable(completion.complete_together)
    complete = durable(completion.complete)
    give_back = durable(recovery.give_back)
    acquit = volatile(leases.acquit)
    learn_costs = durable(accounting.learn)
    horizon = reads(change_feed.horizon)
    report_position = single_volatile(change_feed.report_position)
    start = single_volatile(leases.start)


class ForPeople(Engines):
    """The part of a `Ledger` that the command line uses, and other readers. Each method is one transaction."""

    open_incidents = reads(incidents.open_incidents)
    aside = reads(outbox.aside)
    retry_outbox = durable(outbox.retry)
    drop_outbox = durable(outbox.drop)
    cancel = durable(cancellation.cancel_one)
    dead = reads(replay.find)
    replay = durable(replay.replay)
    held_of = reads(recovery.of_job)
    release_held = durable(recovery.release_held)
    withhold = durable(recovery.withhold)
    held = reads(recovery.held)
    active_jobs = reads(counts.active_jobs)
    ended_jobs = reads(counts.ended_jobs)
    overview = reads(counts.overview)
    job = reads(job_status.job)
    units_of = reads(job_status.units_of)
    named = reads(job_status.named)
    terminals = reads(job_status.terminals)
    conflict_reasons = reads(ingest.conflict_reasons)


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
