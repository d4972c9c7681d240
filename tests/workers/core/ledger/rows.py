"""Rows that tests of the ledger write by hand, as its own functions leave them."""

from uuid import uuid4

from sqlalchemy import insert, select

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.tables import AUDITS, ENTRIES, SERVES
from headrace_workers.features.webhooks.tables import DELIVERIES

SCOPE = "5c09e" + "0" * 59  # of audits
LATE = 2**50


def write(ledger, *statements):
    with writing(ledger.engine) as tx:
        for statement in statements:
            tx.execute(statement)


def entry(ledger, number, **fields):
    """An answer, live unless it is said otherwise."""
    known = {
        "id": number, "scope": f"{number}cope", "key": f"key {number}", "tenant": "a", "state": "live",
        "job_id": f"maker {number}", "lane": 1, "question": f"q{number}", "vector": b"v", "answer": b"{}",
        "saved_ms": 2.5, "made_at": 100, "expires_at": LATE,
    }  # fmt: skip
    write(ledger, insert(ENTRIES).values(**known | fields))


def serve(ledger, number, job_id, **fields):
    known = {
        "job_id": job_id, "entry_id": number, "tenant": "a", "scope": f"{number}cope", "tier": "exact",
        "first_job": f"maker {number}", "saved_tokens": 3, "saved_ms": 0.5, "served_at": 100,
    }  # fmt: skip
    write(ledger, insert(SERVES).values(**known | fields))


def job(ledger, job_id, state="done", tenant="a", **fields):
    known = {"id": job_id, "tenant": tenant, "kind": "generation", "state": state, "payload": b"{}", "accepted_at": 100}
    write(ledger, insert(JOBS).values(**known | fields))


def step(ledger, job_id, state, stage="recall", ordinal=0, **fields):
    known = {
        "job_id": job_id, "stage": stage, "ordinal": ordinal, "queue": stage, "group_key": "g", "lane": 1, "rank": 1,
        "deadline": LATE, "turn": 0, "tokens": 1, "event_type": "t", "state": state, "ready_at": 1,
    }  # fmt: skip
    write(ledger, insert(STEPS).values(**known | fields))


def delivery(ledger, name, state="active", **fields):
    job(ledger, name, state, kind="unit", subject="s")
    step(ledger, name, "ready" if state == "active" else state, "deliver", ready_at=77)
    known = {"id": name, "endpoint_id": "we_1", "tenant": "a", "type": "x", "subject": "j", "body": b"{}",
             "created_at": 100}  # fmt: skip
    write(ledger, insert(DELIVERIES).values(**known | fields))


def states(ledger):
    return dict(tuple(row) for row in ledger.read(select(ENTRIES.c.id, ENTRIES.c.state)))


def audit(ledger, name=None, **fields):
    name = name or str(uuid4())
    known = {
        "id": name, "kind": "hit", "job_id": f"job of {name}"[:36], "entry_id": 1, "tenant": "a", "scope": SCOPE,
        "similarity": 0.9, "stratum": 1, "share": 0.5, "served_at": 100, "label": "clean", "labelled_at": 200,
    }  # fmt: skip
    write(ledger, insert(AUDITS).values(**known | fields))
    return name
