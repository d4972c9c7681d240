"""Selection of look-ups for audits, and the unit of work of an audit."""

from typing import Final, NamedTuple

from headrace_schemas import GenerationJob, Output
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.identity import audit_id, explored_id
from headrace_workers.core.ledger.charges import NextCall
from headrace_workers.core.ledger.outcome import StepWrite
from headrace_workers.core.ledger.steps import BATCH, NewStep
from headrace_workers.core.pipeline.carried import pack
from headrace_workers.core.pipeline.grouping import estimate_tokens
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import ReadBytes, Stage
from headrace_workers.features.cache.calibration.sampling import band, chosen, twice
from headrace_workers.features.cache.semantic.found import Hit, NearMiss
from headrace_workers.features.cache.store.audit_rows import Afresh, NewAudit

AUDIT: Final = "audit"  # the stage that answers afresh
_LAST: Final = 9  # of ranks: behind all jobs
_PATIENCE_MS: Final = 3 * 86_400_000


class Drawn(NamedTuple):
    """The draw of a hit for an audit: its similarity stratum, its probability, and the row to write."""

    stratum: int | None = None
    share: float | None = None
    rows: tuple[StepWrite, ...] = ()


class Auditing:
    """Draws a share of hits, and of misses, by their ids, and makes the work for the stage that audits; nothing where
    there is no such.
    """

    def __init__(self, pipeline: Pipeline, share: float) -> None:
        self._pipeline = pipeline
        self._stage = pipeline.stage(AUDIT)
        self._share = share if self._stage is not None else 0.0

    def chosen(self, job_id: str, hit: Hit) -> bool:
        """Return True if this hit is audited."""
        return chosen(audit_id(job_id, hit.entry_id), self._share)

    def draw(self, job_id: str, question: str, hit: Hit, output: Output, afresh: GenerationJob | None) -> Drawn:
        """Return the audit of a hit by likeness, if it is drawn, with the hit's stratum and its chance of an audit.

        `afresh` is the request to the hit's model. Without it the audit is given up as unknown: a hit that is left out
        would bias the bound.
        """
        similarity = hit.similarity or 0.0
        stratum = band(similarity)
        name = audit_id(job_id, hit.entry_id)
        if self._stage is None or not self.chosen(job_id, hit):
            return Drawn(stratum, self._share)
        audit = NewAudit(
            id=name,
            job_id=job_id,
            entry_id=hit.entry_id,
            tenant=output.tenant,
            scope=hit.scope,
            similarity=similarity,
            stratum=stratum,
            share=self._share,
            question=question,
            served=output.text,
            afresh=None if afresh is None else _work(self._pipeline, self._stage, name, afresh, output),
        )
        return Drawn(stratum, self._share, (audit,))

    def explores(self, job_id: str) -> bool:
        """Return True if the near miss of this job is audited: with the probability of a hit, so that a curve sees both
        as they come.
        """
        return chosen(explored_id(job_id), self._share)

    def explore(self, job_id: str, job: GenerationJob, nearly: NearMiss) -> NewAudit:
        """Return that audit. It needs no work: it compares the job's own answer. In shadow every hit is audited."""
        return NewAudit(
            id=explored_id(job_id),
            kind=nearly.kind,
            guard=nearly.guard,
            job_id=job_id,
            entry_id=nearly.entry_id,
            tenant=job.tenant,
            scope=nearly.scope,
            similarity=nearly.similarity,
            stratum=band(nearly.similarity),
            share=1.0 if nearly.kind == "shadow" else self._share,
            question=job.question,
            served=nearly.text,
        )


def _work(pipeline: Pipeline, stage: Stage, name: str, afresh: GenerationJob, output: Output) -> Afresh:
    value, content = encode_value(output), encode_value(afresh)
    model, times = afresh.first_model, 2 if twice(name) else 1
    call = NextCall(model, pipeline.prices.price(model), times * stage.most_tokens(afresh, ReadBytes(len(content))))
    context = pack(call.pinned(), ())
    step = NewStep(
        job_id=name,
        stage=stage.name,
        queue=stage.queue(afresh.first_model),
        group_key=stage.group_of(afresh, name, afresh.first_model),
        prefix=stage.prefix(afresh),
        sized=True,
        lane=BATCH,
        rank=_LAST,
        deadline=0,  # when it is written, by the ledger's clock
        turn=0,
        tokens=estimate_tokens(afresh) * times,
        event_type=type_of(output),
        payload=value,
        context=context,
        read_bytes=len(value) + len(content) + len(context or b""),
    )
    return Afresh(job=content, step=step, call=call, patience_ms=_PATIENCE_MS)
