"""The explanation of a cache look-up: from a job's receipt, or from its steps while it runs. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from headrace_schemas import DecisionJob, GenerationJob, Moderated, Output, Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.recall import CacheMode, CacheTier, Recall
from headrace_workers.cli.status_views import state_words
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.job_status import JobView
from headrace_workers.core.pipeline.task import unpack
from headrace_workers.features.cache.step import recalled
from headrace_workers.features.cache.store.removal import AnswerOf

AskingJob = GenerationJob | DecisionJob


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's finding, and what it needs to let an answer through: both as numbers where it measures.

    `passed` is None if that is not known. Gates that were not reached are left out.
    """

    gate: str
    found: float | str | None
    needs: float | str | None
    passed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOf:
    """An audit of a given answer (`hit`), or of a near miss (`refused` by a guard, or in `shadow`).

    `guard` is the guard that alone refused it, or `several`. `label` is absent while it waits for its fresh answer,
    `labelled_at` is in ms since 1970, and `own` says how two fresh answers compare, if there were two.
    """

    audit: str
    kind: str
    guard: str | None
    label: str | None
    labelled_by: str | None
    labelled_at: int | None
    reason: str | None
    own: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The outcome of a look-up, and why.

    `tier`, `similarity` and the savings are set where they are known, `waits_for` and `until` (ms since 1970) while the
    job waits for another. `threshold` is the required similarity. `gates` are the gates that were reached, `answers`
    the answers that the job made or was given, and `audit` the audit of the given answer or of the near miss, if there
    is one.
    """

    job_id: str
    outcome: Literal["hit", "miss", "waits", "open", "not asked", "ended"]
    why: str
    cache: str | None = None  # what the job says
    tier: str | None = None
    similarity: float | None = None
    threshold: float | None = None
    refused: str | None = None
    age_ms: float | None = None
    first_job: str | None = None
    entry_id: int | None = None
    saved_tokens: int = 0
    saved_ms: float = 0.0
    waits_for: str | None = None
    until: int | None = None
    gates: tuple[Gate, ...] = ()
    answers: tuple[AnswerOf, ...] = ()
    audit: AuditOf | None = None


_BEFORE = {CacheTier.EXACT: "answered before", CacheTier.COALESCED: "being made by another job"}
_ASKED = "exact, normalised or semantic"
_UNSEEN = ("not asked", "open", "ended")  # nothing was looked up


def gates(explained: Explained, asks: AskingJob | None) -> tuple[Gate, ...]:
    """Return the gates of a look-up in the order in which it reaches them. `asks` is the job, if it is still known."""
    mode = explained.cache or (None if explained.outcome == "not asked" else _ASKED)
    requested = Gate("asks for it", mode, _ASKED, explained.outcome != "not asked")
    return (requested,) if explained.outcome in _UNSEEN else (requested, *_looked_up(explained, asks))


def _looked_up(explained: Explained, asks: AskingJob | None) -> Iterator[Gate]:
    before = _BEFORE.get(CacheTier(explained.tier)) if explained.tier else None
    if explained.outcome == "waits":
        yield Gate("same question", "being made by another job", "an answer that is there", False)
        return
    yield Gate("very same request", before or "not known", "answered, or being made", before is not None)
    normalised = explained.tier == CacheTier.NORMALISED
    if before is None and explained.cache != CacheMode.EXACT:
        yield Gate("same normalised question", "answered before" if normalised else "not known", "answered", normalised)
    if before is None and not normalised and explained.cache not in (CacheMode.EXACT, CacheMode.NORMALISED):
        yield from _by_likeness(explained)
    if explained.outcome == "hit":
        yield Gate("age, s", _seconds(explained.age_ms), None if asks is None else asks.max_age, True)


def _by_likeness(explained: Explained) -> Iterator[Gate]:
    """Yield the gates of a semantic look-up: a lone question, a scope that is on, the similarity, the guards, the
    entry.
    """
    hit, near, least = explained.outcome == "hit", explained.similarity, explained.threshold
    if near is None:
        # Nothing was near: because it may not be looked up by likeness, or since nothing is known in its scope.
        yield Gate("by likeness", explained.refused or "no question is known", "a known question", False)
        return
    reached = hit or (near >= least if least is not None else not (explained.refused or "").startswith("similarity "))
    yield Gate("similarity", near, least, reached)
    if not reached:
        return
    refused = None if hit else explained.refused
    yield Gate("guards", refused or "none refuses", "none refuses", refused is None)
    if not hit and refused is None:
        yield Gate("the answer", "too old for `max_age`, or dead", "live", False)


def _seconds(age_ms: float | None) -> float | None:
    return None if age_ms is None else age_ms / 1_000


def explain(
    job_id: str, view: JobView | None, given: Sequence[Any], answers: Sequence[AnswerOf], audit: Any = None
) -> Explained | None:
    """Return the explanation of a job's look-up, None if nothing is known.

    `given` are the answers that the job was given, the latest first; `audit` is the row of the audit of the given
    answer, or of the near miss.
    """
    if view is None and not given:
        return None
    recall = None if view is None else _recall_of(view)
    asks = None if view is None else _asks(view)
    if given:
        explained = _hit(job_id, given[0], recall)
    elif view is not None:
        explained = _unserved(view, asks, recall)
    cache = asks.cache.value if asks and asks.cache else None
    if isinstance(asks, DecisionJob) and explained.outcome != "not asked":
        cache = CacheMode.EXACT.value  # whatever it says
    explained = replace(explained, cache=cache, answers=tuple(answers), audit=None if audit is None else _audit(audit))
    return replace(explained, gates=gates(explained, asks))


def _audit(row: Any) -> AuditOf:
    return copied(AuditOf, row, audit=row.id)


def _hit(job_id: str, given: Any, recall: Recall | None) -> Explained:
    mine = recall if recall is not None and recall.first_job == given.first_job else Recall()
    words = {
        "exact": "the very same request was answered before",
        "coalesced": "another job was making the answer to the very same request, and this one waited for it",
        "normalised": "the same question was answered before, with other spaces, case or politeness",
        "semantic": "the same question was answered before, in other words",
    }
    return Explained(
        job_id=job_id, outcome="hit", why=words.get(given.tier, given.tier), tier=given.tier,
        similarity=given.similarity, threshold=mine.threshold, age_ms=None if mine.age is None else mine.age * 1_000,
        first_job=given.first_job, entry_id=given.entry_id, saved_tokens=given.saved_tokens, saved_ms=given.saved_ms,
    )  # fmt: skip


def _unserved(view: JobView, asks: AskingJob | None, recall: Recall | None) -> Explained:
    job_id, decides = view.job.id, isinstance(asks, DecisionJob)
    stage, looked_up = ("decide", "decided") if decides else ("recall", "looked up")
    step = max((step for step in view.steps if step.stage == stage), key=lambda step: step.ordinal, default=None)
    if step is None or (decides and recall is None and (step.state == "done" or (asks and asks.cache == "off"))):
        return Explained(job_id=job_id, outcome="not asked", why=_not_asked(view, asks))
    if step.state == "parked" and not decides:
        why = f"job {step.waits_for} is making the same answer"
        return Explained(job_id=job_id, outcome="waits", why=why, waits_for=step.waits_for, until=step.ready_at)
    if step.state in ("dead", "cancelled"):
        why = f"it was {step.state} before it was {looked_up}" + (f": {step.reason}" if step.reason else "")
        return Explained(job_id=job_id, outcome="ended", why=why)
    if step.state != "done":
        why = f"it has not been {looked_up} yet: its step is {state_words(step.state, step.begun_at, step.worker)}"
        return Explained(job_id=job_id, outcome="open", why=why + (f"; {step.reason}" if step.reason else ""))
    looked_up_as = recall or Recall()
    return Explained(
        job_id=job_id, outcome="miss", why=_missed(step, asks, recall), tier="none", similarity=looked_up_as.similarity,
        threshold=looked_up_as.threshold, refused=looked_up_as.refused,
    )  # fmt: skip


def _not_asked(view: JobView, asks: AskingJob | None) -> str:
    if asks is None:
        return f"only generation and decision jobs are looked up, and this is of the kind {view.job.kind}"
    if asks.cache is None:
        return "it says nothing of `cache`, and HEADRACE_CACHE was off when it came"
    return f"it says `cache: {asks.cache}`"


def _missed(step: Any, asks: AskingJob | None, recall: Recall | None) -> str:
    if recall is not None and recall.refused is not None:
        near = "" if recall.similarity is None else f"the nearest known question (similarity {recall.similarity:.3f}): "
        return near + recall.refused
    if recall is not None and recall.similarity is not None:
        return (
            f"the nearest known answer (similarity {recall.similarity:.3f}) was older than the job's `max_age`, or had "
            "just died"
        )
    if step.woken_by is not None:
        return f"it waited for job {step.woken_by}, whose answer did not come in time, or may be given to nobody else"
    aged = "" if asks is None or asks.max_age is None else f" that is no older than {asks.max_age:g} s (its `max_age`)"
    return f"no answer to it was known{aged}"


def _asks(view: JobView) -> AskingJob | None:
    if view.job.kind not in ("generation", "decision"):
        return None
    job = decode_job(view.job.kind, bytes(view.job.payload))
    return job if isinstance(job, AskingJob) else None


def _recall_of(view: JobView) -> Recall | None:
    """Return the look-up: from the receipt, from an earlier event, or from the job's carried context."""
    events = [(view.job.terminal_type, view.job.terminal)] if view.job.terminal else []
    events += [(step.event_type, step.payload) for step in view.steps if step.payload]
    for event_type, value in events:
        event = decode_value(event_type, bytes(value))
        answer = event.answer if isinstance(event, Result | Moderated | Output) else None
        made = answer or (event.decisions if isinstance(event, Result) else None)
        if made is not None and made.recall:
            return made.recall
    for step in view.steps:
        if (recall := recalled(unpack(step.context and bytes(step.context))[0])) is not None:
            return recall
    return None
