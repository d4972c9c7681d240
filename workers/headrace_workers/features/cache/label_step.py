"""The step in which a model labels audits that a comparison left unknown, and the work for it. Only the ledger knows of
it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from headrace_schemas import HeadraceError
from headrace_schemas.reasons import reason_of
from headrace_workers.core.identity import label_id
from headrace_workers.core.ledger.charges import NextCall, Prices
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry, wait_for
from headrace_workers.core.ledger.steps import BATCH, NewStep
from headrace_workers.core.pipeline.carried import pack
from headrace_workers.core.pipeline.stage import ReadBytes, model_queue
from headrace_workers.core.pipeline.task import Job, Unit
from headrace_workers.core.ports import Generator, ProviderBusy, Relation, TextPair, Verdict
from headrace_workers.features.cache.audit_step import UNREPORTED
from headrace_workers.features.cache.store.audit_rows import Label
from headrace_workers.features.cache.store.label_work import Labelled, LabelWork
from headrace_workers.features.generation.verifiers.verify_stage import ModelVerifier, tokens_at_most

LABEL: Final = "label"  # the stage
_LAST: Final = 9  # of ranks: behind all jobs
_CHARACTERS_PER_TOKEN: Final = 4

Texts = Callable[[Collection[str]], Mapping[str, Any]]


def label_tokens(_job: Job, read: ReadBytes) -> int:
    """Return the most tokens of one label."""
    return tokens_at_most(read.total, 1)


def by_model(model: str) -> str:
    """Return the name under which a model labels."""
    return f"verifier:{model}"


def label_work(row: Any, model: str, prices: Prices) -> LabelWork:
    """Return the work of labelling an audit with this model."""
    read = sum(len((text or "").encode()) for text in (row.question, row.served, row.fresh))
    tokens = tokens_at_most(read, 1)
    call = NextCall(model, prices.price(model), tokens)
    context = pack(call.pinned(), ())
    step = NewStep(
        job_id=label_id(row.id),
        stage=LABEL,
        queue=model_queue(model),
        group_key=f"{LABEL}|{model}",
        sized=True,
        lane=BATCH,
        rank=_LAST,
        deadline=0,  # when it is written, by the ledger's clock
        turn=0,
        tokens=tokens // _CHARACTERS_PER_TOKEN,
        event_type=LABEL,
        context=context,
        read_bytes=read + len(context or b""),
        tenant=row.tenant,
    )
    return LabelWork(audit_id=row.id, tenant=row.tenant, step=step, call=call)


def label_audits(units: Sequence[Unit], *, generator: Generator, audit_texts: Texts) -> list[Outcome]:
    """Ask the model whether the served and the fresh answer of each audit say the same; the i-th outcome belongs to the
    i-th unit. An audit that a person has labelled by now, or whose texts are forgotten, is left as it is.
    """
    rows = audit_texts([unit.subject for unit in units])
    found = [row for unit in units if (row := rows.get(unit.subject)) is not None]
    pairs = [TextPair(Relation.SAME_ANSWER, row.served, row.fresh, row.tenant, row.question) for row in found]
    verdicts = dict(zip((row.id for row in found), ModelVerifier(generator).verify(pairs), strict=True))
    return [_outcome(unit.subject, verdicts.get(unit.subject), generator.alias) for unit in units]


def _outcome(audit_id: str, verdict: Verdict | HeadraceError | None, model: str) -> Outcome:
    if verdict is None:
        return Done()
    if isinstance(verdict, ProviderBusy):
        return wait_for(verdict)
    if isinstance(verdict, HeadraceError):
        reason = reason_of(verdict)
        unknown = Labelled(audit_id, "unknown", by_model(model), f"the verifier gave no verdict: {reason}")
        given_up = Done(rows=(unknown,), usage=UNREPORTED if verdict.billed else None)
        return Retry(reason, otherwise=given_up, billed=verdict.billed) if verdict.category.retryable else given_up
    label: Label = "clean" if verdict.holds else "wrong"
    reason = f"the same answer with a probability of {verdict.value:.2f}"
    return Done(rows=(Labelled(audit_id, label, by_model(model), reason),), usage=verdict.usage or UNREPORTED)
