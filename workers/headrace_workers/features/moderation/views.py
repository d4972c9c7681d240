"""Moderation policies and held jobs as everybody sees them, in tables and by `--json`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from headrace_schemas.moderation import Action
from headrace_workers.cli.durations import Moment

if TYPE_CHECKING:
    from headrace_workers.features.moderation.policy import Policy, Rule


class PolicyRule(BaseModel):
    """The action for findings of one category. `again`: the model first answers once more."""

    action: Action
    min_score: float
    detectors: int
    allowed: list[str]
    again: bool

    @classmethod
    def of(cls, rule: "Rule") -> Self:
        """Return the view of a rule."""
        return cls(
            action=rule.action,
            min_score=rule.min_score,
            detectors=rule.detectors,
            allowed=list(rule.allowed),
            again=rule.again,
        )


class ModerationPolicy(BaseModel):
    """A policy: its version, its rules by category, and the versions of the tenants that have a policy of their own."""

    policy: str
    categories: dict[str, PolicyRule]
    tenants: dict[str, str]

    @classmethod
    def of(cls, policy: "Policy", looked_for: Collection[str]) -> Self:
        """Return the view of a policy, with the rules of the categories that are looked for."""
        rules = {name: PolicyRule.of(rule) for name, rule in sorted(policy.rules.items()) if name in looked_for}
        tenants = {name: own.version for name, own in policy.tenants.items()}
        return cls(policy=policy.version, categories=rules, tenants=tenants)


class HeldJob(BaseModel):
    """A job that is held: for a person, or until the next try at `again_at`."""

    job_id: str
    tenant: str
    stage: str
    since: Moment
    needs_person: bool
    again_at: Moment
    reason: str | None

    @property
    def id(self) -> str:
        """Return the job's id, by which lists of these are paged."""
        return self.job_id

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the view of a held step."""
        return cls(**_held(row))


class HeldText(HeldJob):
    """A held job with its question, and the text that moderation has not passed."""

    asked: str | None
    text: str | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """Return the view of a held step with its texts."""
        asked, text = _texts(row)
        return cls(**_held(row), asked=asked, text=text)


def _held(row: Any) -> dict[str, Any]:
    from headrace_workers.core.tables import NEVER

    needs_person = bool(row.again >= NEVER)
    return {
        "job_id": row.job_id,
        "tenant": row.tenant,
        "stage": row.stage,
        "since": row.since,
        "needs_person": needs_person,
        "again_at": None if needs_person else row.again,
        "reason": row.reason,
    }


def _texts(row: Any) -> tuple[str | None, str | None]:
    """Return the question, and the text that is held: an answer, or the text of a moderation job."""
    from headrace_schemas import DecisionJob, EvaluationJob, GenerationJob, Moderated, Output
    from headrace_schemas.codec import decode_job, decode_value
    from headrace_workers.features.moderation.step import text_of

    job = decode_job(row.kind, row.payload)
    event = None if row.event is None else decode_value(row.event_type, row.event)
    question = job.question if isinstance(job, GenerationJob) else job.input if isinstance(job, EvaluationJob) else None
    if isinstance(job, DecisionJob):
        return None, "\n\n".join(turn.content for turn in job.conversation)
    if isinstance(event, Output):
        return question, text_of(event.answer)
    if isinstance(event, Moderated):
        return question, None if event.answer.text is None else text_of(event.answer)
    return question, job.output if isinstance(job, EvaluationJob) else getattr(job, "input", None)
