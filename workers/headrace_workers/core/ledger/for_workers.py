"""Ledger operations of workers: begin claims, keep them, and write their outcomes."""

from headrace_workers.core.ledger import changes, complete, followers, leases, start
from headrace_workers.core.sql.engines import Engines
from headrace_workers.core.sql.transactions import brief_volatile, durable, reads, volatile


class ForWorkers(Engines):
    """The part of a `Ledger` that workers use."""

    start = brief_volatile(start.start)
    renew = volatile(leases.renew)
    leased_jobs = reads(leases.leased_jobs)
    complete = durable(complete.complete)
    acquit = volatile(leases.acquit)
    horizon = reads(changes.horizon)
    followed = brief_volatile(followers.tell)
