"""Ids that are the same however often the work is repeated, and names of processes, which are never reused."""

import os
import socket
import uuid

from headrace_schemas.uuids import Namespace

_EVENTS = Namespace(uuid.UUID("0d3c6a0e-6a2f-5b0b-8f0c-2d7f4ad1c0e5"))
_AUDITS = Namespace(uuid.UUID("c0a9a2f4-6a0b-5d0e-8f6f-2d3d6a5b9e47"))
_REVIEWS = Namespace(uuid.UUID("5b1f0c8a-93d7-5f4e-a6c2-1e7d80b4f935"))


def said_id(job_id: str, stage: str, ordinal: int, place: int, replays: int = 0) -> str:
    """Return the id of what a run of a stage said about a job: the `ordinal`-th time round, and `place` of all that it
    said.

    A job that was replayed by hand starts a new series.
    """
    return _EVENTS.id_of(f"{job_id}\n{stage}\n{ordinal}\n{place}\n{replays}")


def held_id(job_id: str, stage: str, ordinal: int, since: int, replays: int = 0) -> str:
    """Return the id of the event that tells of a job that is held at a stage since that time (ms)."""
    return _EVENTS.id_of(f"{job_id}\n{stage}\n{ordinal}\nheld {since}\n{replays}")


def end_id(job_id: str, event_type: str, replays: int = 0) -> str:
    """Return the id of the event of this type that ends a job, whichever stage it had come to."""
    return _EVENTS.id_of(f"{job_id}\n{event_type}\n{replays}")


def policy_event_id(at: int, place: int, version: str) -> str:
    """Return the id of the event that reports a policy; `place` numbers the policies that change at one moment (ms)."""
    return _EVENTS.id_of(f"policy {version}\n{at}\n{place}")


def breaker_event_id(model: str, at: int, name: str) -> str:
    """Return the id of the event of this name about a model's breaker, which changed at this moment (ms)."""
    return _EVENTS.id_of(f"{name} {model}\n{at}")


def budget_event_id(tenant: str, key_id: str, unit: str, period: str, ends: int, percent: int, most: int) -> str:
    """Return the id of the event that tells that so many percent of a budget are spent in the period that ends then."""
    return _EVENTS.id_of(f"budget {tenant}\n{key_id}\n{unit}\n{period}\n{ends}\n{percent}\n{most}")


def label_event_id(scope: str, application: str, label: str, move: int, at: int) -> str:
    """Return the id of the event about the ledger's `move`-th move of a label, which was made at this time (ms).

    The time tells two moves with one number apart, where the ledger was restored from a backup.
    """
    return _EVENTS.id_of(f"application {scope}\n{application}\n{label}\n{move}\n{at}")


def review_event_id(item: str, who: str, revision: int) -> str:
    """Return the id of the event about a person's decision: their `revision`-th about this item."""
    return _EVENTS.id_of(f"review {item}\n{who}\n{revision}")


def refusal_id(topic: str, partition: int, offset: int, timestamp: int = 0) -> str:
    """Return the id of the dead letter of a record that was refused: the same when the record is read again.

    The record's own time is part of it: a log that began anew gives out the same offsets for other records.
    """
    return _EVENTS.id_of(f"{timestamp}\n{topic}\n{partition}\n{offset}")


def audit_id(job_id: str, entry_id: int) -> str:
    """Return the id of the audit of what this job was served: the same however often it is."""
    return _AUDITS.id_of(f"{job_id}\n{entry_id}")


def label_id(audit_id: str) -> str:
    """Return the id of the work of labelling an audit."""
    return _AUDITS.id_of(f"{audit_id}\nlabel")


def explored_id(job_id: str) -> str:
    """Return the id of the audit of what this job was nearly served."""
    return _AUDITS.id_of(f"{job_id}\nnearly")


def review_item_id(tenant: str, job_id: str, stage: str | None, ordinal: int, replays: int, rule: str) -> str:
    """Return the id of the review item of a held step, or of an ended answer, which has no stage."""
    return _REVIEWS.id_of(f"{tenant}\n{job_id}\n{stage or ''}\n{ordinal}\n{replays}\n{rule}")


def process_name(kind: str) -> str:
    """Return a name for this process that no other has had: it holds claims and duties under it."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
