"""Held steps and dead letters in a ledger, as workers and bridges leave them."""

from typing import Any
from uuid import uuid4

from sqlalchemy import insert
from tests.workers.core.ledger.rows import job, step

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, NEVER


def hold(ledger: Ledger, ago: int = 1_000, tenant: str = "default", **fields: Any) -> str:
    """A job that is held since so many ms; its id."""
    job_id = str(uuid4())
    job(ledger, job_id, "active", tenant, application=fields.pop("application", None))
    known = {"stage": "moderate", "ready_at": NEVER, "held_at": ledger.now() - ago, "reason": "wants review"}
    step(ledger, job_id, "held", **known | fields)
    return job_id


def bury(ledger: Ledger, ago: int = 1_000, tenant: str = "default", **fields: Any) -> str:
    """A job that died so many ms ago at `generate`, of the model `echo`; the id of its letter."""
    job_id, letter_id = str(uuid4()), str(uuid4())
    now = ledger.now()
    application, queue = fields.pop("application", None), fields.pop("queue", "model.echo")
    job(ledger, job_id, "dead", tenant, application=application, ended_at=now - ago, terminal=b"{}")
    step(ledger, job_id, "dead", "generate", queue=queue, ended_at=now - ago)
    _letter(ledger, id=letter_id, job_id=job_id, tenant=tenant, died_at=now - ago, **fields)
    return letter_id


def refuse(ledger: Ledger, **fields: Any) -> str:
    """The letter of a record that was refused; its id."""
    letter_id = str(uuid4())
    known = {"tenant": "default", "category": "invalid", "stage": "ingest", "value": b"{}", "died_at": ledger.now()}
    _letter(ledger, id=letter_id, **known | fields)
    return letter_id


def _letter(ledger: Ledger, **fields: Any) -> None:
    known = {
        "category": "permanent", "reason": "the model refused", "stage": "generate", "attempts": 3,
        "topic": "jobs.generation", "headers": "{}", "value": b"{}",
    }  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(insert(DEAD_LETTERS).values(**known | fields))
