"""Which hits are audited, and the work that an audit is."""

import uuid
from typing import Final

from headrace_schemas import GenerationJob, Output
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.calibration.sampling import band, chosen
from headrace_workers.ledger.audit_rows import NewAudit
from headrace_workers.ledger.lanes import BATCH
from headrace_workers.ledger.steps import NewStep
from headrace_workers.pipeline.grouping import estimate_tokens
from headrace_workers.pipeline.routing import Pipeline
from headrace_workers.pipeline.stages import AUDIT
from headrace_workers.recall.found import Hit
from headrace_workers.steps.recall import Drawn

_AUDITS: Final = uuid.UUID("c0a9a2f4-6a0b-5d0e-8f6f-2d3d6a5b9e47")
_LAST: Final = 9  # of ranks: behind all jobs


def audit_id(job_id: str, entry_id: int) -> str:
    """The id of the audit of what this job was served: the same however often it is."""
    return str(uuid.uuid5(_AUDITS, f"{job_id}\n{entry_id}"))


class Auditing:
    """Draws a share of hits by their ids, and makes the work for the stage that audits; none where there is no such."""

    def __init__(self, pipeline: Pipeline, share: float) -> None:
        self._stage = pipeline.stage(AUDIT)
        self._share = share if self._stage is not None else 0.0

    def chosen(self, job_id: str, hit: Hit) -> bool:
        """Whether this hit is audited."""
        return chosen(audit_id(job_id, hit.entry_id), self._share)

    def draw(self, job_id: str, question: str, hit: Hit, output: Output, afresh: GenerationJob | None) -> Drawn:
        """Whether this hit, which was found by likeness, is audited; its stratum, and its chance of that.

        `afresh` is what its model is to be asked; None where that cannot be had, and nothing is audited.
        """
        similarity = hit.similarity or 0.0
        stratum = band(similarity)
        name = audit_id(job_id, hit.entry_id)
        if self._stage is None or afresh is None or not self.chosen(job_id, hit):
            return Drawn(stratum, self._share)
        value = encode_value(output)
        content = encode_value(afresh)
        step = NewStep(
            job_id=name,
            stage=self._stage.name,
            queue=self._stage.queue(afresh.model),
            group_key=self._stage.group_of(afresh, name, afresh.model),
            sized=True,
            lane=BATCH,
            rank=_LAST,
            deadline=0,  # when it is written, by the ledger's clock
            turn=0,
            tokens=estimate_tokens(afresh),
            event_type=type_of(output),
            payload=value,
            read_bytes=len(value) + len(content),
        )
        audit = NewAudit(
            id=name,
            job_id=job_id,
            entry_id=hit.entry_id,
            tenant=afresh.tenant,
            scope=hit.scope,
            similarity=similarity,
            stratum=stratum,
            share=self._share,
            question=question,
            served=output.text,
            job=content,
            step=step,
            patience_ms=int(self._stage.patience * 1000),
        )
        return Drawn(stratum, self._share, (audit,))
