"""Ids that come out the same however often the work is repeated, so that a repeat can be recognised."""

import uuid

_EVENTS = uuid.UUID("0d3c6a0e-6a2f-5b0b-8f0c-2d7f4ad1c0e5")


def event_id(job_id: str, event_type: str, replays: int = 0) -> str:
    """The id of the one event of this type about this job; a job that was replayed by hand starts a new series."""
    return str(uuid.uuid5(_EVENTS, f"{job_id}\n{event_type}\n{replays}"))


def refusal_id(topic: str, partition: int, offset: int, timestamp: int = 0) -> str:
    """The id of the dead letter of a record that was refused: the same when the record is read again.

    The record's own time is part of it: a log that began anew gives out the same offsets for other records.
    """
    return str(uuid.uuid5(_EVENTS, f"{timestamp}\n{topic}\n{partition}\n{offset}"))
