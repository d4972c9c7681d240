"""Ledger operations of gateways: admit jobs, wait for them, and see how full the ledger is."""

from headrace_workers.core.ledger import accepted, cancel, job_status, pressure
from headrace_workers.core.sql.engines import Engines
from headrace_workers.core.sql.transactions import brief_durable, durable, reads


class ForGateways(Engines):
    """The part of a `Ledger` that gateways use. Each method is one transaction."""

    reserve = durable(accepted.reserve)
    confirm_admission = brief_durable(accepted.confirm)
    withdraw_admission = brief_durable(accepted.withdraw)
    look_for = reads(job_status.look)
    standings = reads(job_status.standings)
    pressure = reads(pressure.pressure)
    cancel_all = durable(cancel.cancel)
