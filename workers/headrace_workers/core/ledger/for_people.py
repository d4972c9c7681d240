"""Ledger operations of people and their clients: read the state, list dead letters, and replay or cancel."""

from headrace_workers.core.ledger import cancel, counts, held, incidents, lookup, outbox, repetitions, replay
from headrace_workers.core.sql.engines import Engines
from headrace_workers.core.sql.transactions import durable, reads


class ForPeople(Engines):
    """The part of a `Ledger` that the command line uses, and other readers. Each method is one transaction."""

    open_incidents = reads(incidents.open_incidents)
    aside = reads(outbox.aside)
    retry_outbox = durable(outbox.retry)
    drop_outbox = durable(outbox.drop)
    cancel = durable(cancel.cancel_one)
    dead = reads(replay.find)
    replay = durable(replay.replay)
    held_of = reads(held.of_job)
    release_held = durable(held.release_held)
    withhold = durable(held.withhold)
    held = reads(held.held)
    active_jobs = reads(counts.active_jobs)
    ended_jobs = reads(counts.ended_jobs)
    overview = reads(counts.overview)
    job = reads(lookup.job)
    units_of = reads(lookup.units_of)
    named = reads(lookup.named)
    terminals = reads(lookup.terminals)
    repeated = reads(repetitions.repeated)
