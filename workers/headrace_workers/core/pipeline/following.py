"""Which units follow from what is published."""

import uuid
from collections.abc import Mapping, Sequence

from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import HeadraceError
from headrace_schemas.topics import INBOUND
from headrace_schemas.uuids import Namespace
from headrace_workers.core.ledger.lanes import BATCH
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.ledger.units import NewUnit
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Stage
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.webhooks.telling import Telling

_UNITS = Namespace(uuid.UUID("5b1f0b0c-8d0e-5a55-9d0c-3f1f5b9f6a11"))
_USUAL_RANK = 4


def unit_id(event_id: str, stage: str, endpoint: str) -> str:
    """The id of what a stage does about an event for an endpoint: the same however often the event is published."""
    return _UNITS.id_of(f"{event_id}\n{stage}\n{endpoint}")


class Following:
    """The stages that follow events. Where there are none, this costs nothing; `telling` makes the webhooks."""

    def __init__(self, pipeline: Pipeline, ledger: Ledger, telling: Telling | None = None) -> None:
        self._followers = pipeline.followers
        self._ledger = ledger
        self._telling = telling

    def units(self, records: Sequence[Outgoing], now: int) -> list[NewUnit]:
        """The units that follow from these records, at `now` (ms by the ledger's clock).

        A refused record that is replayed goes back to its own topic as its sender wrote it. Nothing follows from that,
        whatever its headers say: they may name no type, or call it the end of somebody's job.
        """
        records = [record for record in records if record.topic not in INBOUND]
        told = self._telling.units(records, now) if self._telling is not None else []
        return [*told, *self._followed(records, now)]

    def _followed(self, records: Sequence[Outgoing], now: int) -> list[NewUnit]:
        wanted = [record for record in records if self._wanted(record)]
        if not wanted:
            return []
        jobs = self._ledger.jobs_of([record.key for record in wanted if record.key])
        return [unit for record in wanted for unit in self._of(record, jobs, now)]

    def _wanted(self, record: Outgoing) -> bool:
        return any(record.headers["ce_type"] in stage.follows for stage in self._followers)

    def _of(self, record: Outgoing, jobs: Mapping[str, tuple[str, bytes]], now: int) -> list[NewUnit]:
        event_type, event_id = record.headers["ce_type"], record.headers["ce_id"]
        event = decode_value(event_type, record.value)
        job = _job(jobs.get(record.key or ""))
        return [
            NewUnit(
                id=unit_id(event_id, stage.name, endpoint),
                subject=record.key or event_id,
                tenant=getattr(event, "tenant", None) or "default",
                endpoint=endpoint,
                step=_step(stage, event_type, record.value, now),
                most_open=stage.most_open,
            )
            for stage in self._followers
            if event_type in stage.follows
            for endpoint in dict.fromkeys(stage.endpoints(event, job))
        ]


def _step(stage: Stage, event_type: str, value: bytes, now: int) -> NewStep:
    return NewStep(
        job_id="",  # the unit's: see units.follow
        stage=stage.name,
        queue=stage.queue(),
        group_key=stage.name,
        lane=BATCH,
        rank=_USUAL_RANK,
        deadline=now + int(stage.patience * 1000),
        turn=0,
        tokens=1,
        event_type=event_type,
        payload=value,
        read_bytes=len(value),
    )


def _job(found: tuple[str, bytes] | None) -> Job | None:
    if found is None:
        return None
    try:
        return decode_job(*found)
    except HeadraceError:  # one that was cancelled before it came has no content
        return None
