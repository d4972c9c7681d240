"""Workers that begin claims and die."""

from sqlalchemy import update

from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, STEPS


def run_out(ledger):
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(renewed_at=0, lease_until=1))


def begin(ledger, taken: Claim, worker="w"):
    return ledger.start(taken.id, worker=worker, lease_ms=60_000)


def be_due(ledger):
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=0))
    ledger.reap(3)
