"""Audits: serves are drawn, answered afresh, compared, and labelled by a model where a comparison cannot tell. Only the
ledger knows of it.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas import GenerationJob, HeadraceError, Output, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_schemas.reasons import reason_of
from headrace_workers.core.fields import copied
from headrace_workers.core.identity import audit_id, explored_id, label_id
from headrace_workers.core.ledger.charges import NextCall, Prices
from headrace_workers.core.ledger.outcome import Done, Outcome, ProviderBusy, Retry, StepWrite, wait_for
from headrace_workers.core.ledger.steps import BATCH, NewStep
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import ReadBytes, Stage, model_queue
from headrace_workers.core.pipeline.task import Job, Unit, estimate_tokens, pack
from headrace_workers.features.cache.audit_labels import compare
from headrace_workers.features.cache.store.audit_rows import Audited, AuditWork, NewAudit
from headrace_workers.features.cache.store.entries import Served
from headrace_workers.features.cache.tables import SHADOW
from headrace_workers.models.generator import Completion, Generator, Request
from headrace_workers.models.structured.tools import with_format
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict
from headrace_workers.models.verifiers.verify_stage import ModelVerifier, tokens_at_most

if TYPE_CHECKING:  # it imports NumPy, which most processes do without
    from headrace_workers.features.cache.semantic.lookup import Lookup

# The lowest similarity of each stratum; the first stratum also takes everything below it. Errors gather at low
# similarities.
BANDS: Final = (0.90, 0.94, 0.97, 0.99)
_TWICE: Final = 0.2  # of audits


def band(similarity: float) -> int:
    """Return the number of the stratum, from 0, of this similarity."""
    return max(0, bisect_right(BANDS, similarity) - 1)


def chosen(serve_id: str, share: float, purpose: str = "audit") -> bool:
    """Return True if this serve is in the `share` of all that are taken. The result is the same for an id everywhere.

    Uniform, and independent from one purpose to another.
    """
    digest = blake2b(f"{purpose}\0{serve_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def twice(audit_id: str) -> bool:
    """Return True if the model answers this audit twice, to measure its agreement with itself."""
    return chosen(audit_id, _TWICE, "twice")


AUDIT: Final = "audit"  # the stage that answers afresh
_LAST: Final = 9  # of ranks: after all jobs


class Auditing:
    """Draws a share of hits, and of misses, by their ids, and makes the work for the stage that audits; nothing where
    there is no such.
    """

    def __init__(self, pipeline: Pipeline, share: float) -> None:
        self._pipeline = pipeline
        self._stage = pipeline.stage(AUDIT)
        self._share = share if self._stage is not None else 0.0

    def draw(
        self, served: Served, question: str, output: Output, afresh: GenerationJob | None
    ) -> tuple[StepWrite, ...]:
        """Return the rows of a serve by likeness: it, with its stratum and its chance of an audit, and its audit, if it
        is drawn.

        `afresh` is the request to the hit's model. Without it the audit is given up as unknown: a hit that is left out
        would bias the bound.
        """
        similarity = served.similarity or 0.0
        served = replace(served, stratum=band(similarity), share=self._share)
        name = audit_id(served.job_id, served.entry_id)
        if self._stage is None or not chosen(name, self._share):
            return (served,)
        work = None if afresh is None else _work(self._pipeline, self._stage, name, afresh, output, served.scope)
        audit = copied(
            NewAudit, served, id=name, similarity=similarity, question=question, served=output.text, afresh=work
        )
        return (served, audit)

    def explores(self, job_id: str) -> bool:
        """Return True if the near miss of this job is audited, which has the probability of a hit."""
        return chosen(explored_id(job_id), self._share)

    def explore(self, missed: "Lookup") -> NewAudit:
        """Return the audit of what a job was nearly served. It needs no work: it compares the job's own answer. In
        shadow every hit is audited.
        """
        assert missed.near is not None and missed.kind is not None and missed.nearly is not None  # noqa: S101, PT018
        return NewAudit(
            id=explored_id(missed.job_id),
            kind=missed.kind,
            guard=missed.guard,
            job_id=missed.job_id,
            entry_id=missed.near.entry_id,
            tenant=missed.job.tenant,
            scope=missed.scope,
            similarity=missed.near.similarity,
            stratum=band(missed.near.similarity),
            share=1.0 if missed.kind == SHADOW else self._share,
            question=missed.job.question,
            served=missed.nearly,
        )


def _work(pipeline: Pipeline, stage: Stage, name: str, afresh: GenerationJob, output: Output, scope: str) -> AuditWork:
    value, content = encode_value(output), encode_value(afresh)
    model, times = afresh.first_model, 2 if twice(name) else 1
    call = NextCall(model, pipeline.prices.price(model), times * stage.most_tokens(afresh, ReadBytes(len(content))))
    step = _bulk(
        name, stage.name, stage.queue(model), stage.group_of(afresh, name, model), call, len(value) + len(content)
    )
    step = step._replace(
        prefix=stage.prefix(afresh),
        tokens=estimate_tokens(afresh) * times,
        event_type=type_of(output),
        payload=value,
    )
    endpoint = f"scope {scope[:8]}"
    return AuditWork(tenant=output.tenant, subject=output.job_id, endpoint=endpoint, step=step, call=call, job=content)


def _bulk(name: str, stage: str, queue: str, group: str, call: NextCall, read_bytes: int) -> NewStep:
    """Return a step of bulk work that comes after all jobs."""
    context = pack(call.pinned(), ())
    return NewStep(
        job_id=name,
        stage=stage,
        queue=queue,
        group_key=group,
        sized=True,
        lane=BATCH,
        rank=_LAST,
        deadline=0,  # when it is written, by the ledger's clock
        turn=0,
        tokens=0,
        event_type=stage,
        context=context,
        read_bytes=read_bytes + len(context or b""),
    )


UNREPORTED: Final = Usage(prompt_tokens=0, completion_tokens=0)  # of a call that is charged with the most


def audit(units: Sequence[Unit], *, generator: Generator) -> list[Outcome]:
    """Answer each served job again in one call of the model, without the cache; the i-th outcome belongs to the i-th
    unit.

    Some are answered twice, to measure how far the model agrees with itself. If there is no answer after some attempts,
    the verdict is unknown: neither clean nor wrong.
    """
    audited = [
        (index, unit.job, unit.event)
        for index, unit in enumerate(units)
        if isinstance(unit.job, GenerationJob) and isinstance(unit.event, Output)
    ]
    times = [2 if twice(units[index].id) else 1 for index, _, _ in audited]
    requests = [
        Request(
            with_format(job.conversation, job),
            job.sampling,
            job.tenant,
            output=job.output,
            tools=job.tools,
            offer=job.offer,
        )
        for (_, job, _), count in zip(audited, times, strict=True)
        for _ in range(count)
    ]
    completions = iter(generator.generate(requests) if requests else [])
    outcomes: list[Outcome] = [_unknown(unit, "it is no audit of a generation job") for unit in units]
    for (index, _, served), count in zip(audited, times, strict=True):
        outcomes[index] = _audit_outcome(units[index], served, *islice(completions, count))
    return outcomes


def compared(audit_id: str, served: str, fresh: str, again: str | None = None) -> Audited:
    """Return the verdict of an audit. `again` is a second fresh answer."""
    comparison = compare(served, fresh)
    own = None if again is None else compare(fresh, again).kind
    return Audited(audit_id, comparison.kind, comparison.reason, fresh, again, own)


def _audit_outcome(
    unit: Unit, served: Output, first: Completion | HeadraceError, second: Completion | HeadraceError | None = None
) -> Outcome:
    if isinstance(first, ProviderBusy):
        return wait_for(first)
    if isinstance(first, HeadraceError):
        reason = reason_of(first)
        given_up = replace(_unknown(unit, f"given up: {reason}"), usage=UNREPORTED if first.billed else None)
        return Retry(reason, otherwise=given_up, billed=first.billed) if first.category.retryable else given_up
    again = _text(second) if isinstance(second, Completion) else None
    return Done(rows=(compared(unit.id, served.text, _text(first), again),), usage=_usage(first, second))


def _usage(first: Completion, second: Completion | HeadraceError | None) -> Usage:
    """Return the tokens of both answers; none where a second that did not come may be billed, or a provider counted
    none.
    """
    if isinstance(second, HeadraceError):
        return UNREPORTED if second.billed else _usage(first, None)
    both = [first] if second is None else [first, second]
    if any(usage.prompt_tokens == 0 for usage in both):
        return UNREPORTED
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in both),
        completion_tokens=sum(usage.completion_tokens for usage in both),
    )


def _text(completion: Completion) -> str:
    return completion.text.replace("\x00", "\ufffd")


def _unknown(unit: Unit, reason: str) -> Done:
    return Done(rows=(Audited(unit.id, "unknown", reason),))


LABEL: Final = "label"  # the stage
_CHARACTERS_PER_TOKEN: Final = 4

Texts = Callable[[Collection[str]], Mapping[str, Any]]


def label_tokens(_job: Job, read: ReadBytes) -> int:
    """Return the most tokens of one label."""
    return tokens_at_most(read.total, 1)


@dataclass(frozen=True, slots=True)
class AuditLabels:
    """The labels of a model of the deployment, for which units of work are made. `prices` are those of its calls."""

    model: str
    prices: Prices

    @property
    def by(self) -> str:
        """Return the name under which the model labels."""
        return f"verifier:{self.model}"

    def work(self, row: Any) -> AuditWork:
        """Return the work of labelling this audit."""
        read = sum(len((text or "").encode()) for text in (row.question, row.served, row.fresh))
        tokens = tokens_at_most(read, 1)
        call = NextCall(self.model, self.prices.price(self.model), tokens)
        step = _bulk(label_id(row.id), LABEL, model_queue(self.model), f"{LABEL}|{self.model}", call, read)
        step = step._replace(tokens=tokens // _CHARACTERS_PER_TOKEN, tenant=row.tenant)
        return AuditWork(tenant=row.tenant, subject=row.id, endpoint=LABEL, step=step, call=call)


def labelled_by(verifier: str, audit_id: str, verdict: Verdict | HeadraceError) -> Audited:
    """Return the label of an audit by a verifier, which has a verdict about its answers or has not."""
    by = f"verifier:{verifier}"
    if isinstance(verdict, HeadraceError):
        return Audited(audit_id, "unknown", f"the verifier gave no verdict: {reason_of(verdict)}", by=by)
    reason = f"the same answer with a probability of {verdict.value:.2f}"
    return Audited(audit_id, "clean" if verdict.holds else "wrong", reason, by=by)


def label_audits(units: Sequence[Unit], *, generator: Generator, audit_texts: Texts) -> list[Outcome]:
    """Ask the model whether the served and the fresh answer of each audit say the same; the i-th outcome belongs to the
    i-th unit. An audit that a person has labelled by now, or whose texts are forgotten, is left as it is.
    """
    rows = audit_texts([unit.subject for unit in units])
    there = [row for unit in units if (row := rows.get(unit.subject)) is not None]
    pairs = [TextPair(Relation.SAME_ANSWER, row.served, row.fresh, row.tenant, row.question) for row in there]
    verdicts = dict(zip((row.id for row in there), ModelVerifier(generator).verify(pairs), strict=True))
    return [_label_outcome(unit.subject, verdicts.get(unit.subject), generator.alias) for unit in units]


def _label_outcome(audit_id: str, verdict: Verdict | HeadraceError | None, model: str) -> Outcome:
    if verdict is None:
        return Done()
    if isinstance(verdict, ProviderBusy):
        return wait_for(verdict)
    label = labelled_by(model, audit_id, verdict)
    if isinstance(verdict, Verdict):
        return Done(rows=(label,), usage=verdict.usage or UNREPORTED)
    given_up = Done(rows=(label,), usage=UNREPORTED if verdict.billed else None)
    if not verdict.category.retryable:
        return given_up
    return Retry(reason_of(verdict), otherwise=given_up, billed=verdict.billed)
