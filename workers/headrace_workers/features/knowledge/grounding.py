"""The passages of a job's answer, carried from the search to the step in which the model answers."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Answer, GenerationJob, Message, Output, Usage
from headrace_schemas.grounding import MAX_UNKNOWN, Grounding, WithoutPassages
from headrace_schemas.recall import Recall
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.features.knowledge.citations import cited
from headrace_workers.features.knowledge.grounds import Found, Grounds, NoGrounds, with_turn

KNOWLEDGE: Final = "knowledge"  # the name under which what was found goes on with the job
_TURN: Final = "turn"  # in it, the user's turn with the passages
_GROUNDING: Final = "grounding"  # and what the receipt says of them
_NO_BASE: Final = {"knowledge": None, "knowledge_filter": None, "without_passages": None}
USED: Final = "used"  # the documents that they come from, as they were: [id, version]


def grounded(found: Grounds) -> Done:
    """Send the job on to its model with these passages."""
    known = {_GROUNDING: found.grounding.model_dump(mode="json", exclude_none=True), _TURN: found.turn}
    return Done(context={KNOWLEDGE: known, USED: [list(each) for each in found.used]}, tokens=found.tokens)


def ungrounded(job_id: str, job: GenerationJob, found: NoGrounds, recall: Recall | None) -> Done:
    """Let a job without usable passages abstain, or go on to its model without them, as it says."""
    if job.without_passages is WithoutPassages.ANSWER:
        return Done(context={KNOWLEDGE: {_GROUNDING: found.grounding.model_dump(mode="json", exclude_none=True)}})
    return Done(
        Output(
            job_id=job_id,
            tenant=job.tenant,
            answer=Answer(
                text="",
                finish_reason="abstained",
                model=job.model,
                quantization="none",
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                recall=recall,
                grounding=found.grounding,
            ),
        )
    )


def afresh(job: GenerationJob, found: Found | None) -> GenerationJob | None:
    """Return the job with its passages in it, to be asked once more without a search; None if they cannot be had."""
    match found:
        case None:
            return job if job.knowledge is None else None
        case Grounds():
            return job.model_copy(update={"prompt": None, "messages": with_turn(job, found.turn), **_NO_BASE})
        case NoGrounds() if job.without_passages is WithoutPassages.ANSWER:
            return job.model_copy(update=_NO_BASE)
    return None


def turn_of(context: Mapping[str, Any]) -> str | None:
    """Return the user's turn with the passages; None if there are none."""
    turn: str | None = context.get(KNOWLEDGE, {}).get(_TURN)
    return turn


def conversation_of(job: GenerationJob, context: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """Return the job's conversation with its passages; None where it has none."""
    turn = turn_of(context)
    return None if turn is None else with_turn(job, turn)


def answer_fields(context: Mapping[str, Any], text: str) -> Mapping[str, Grounding]:
    """Return what the receipt of an answer with this text says of its grounds; nothing where a job named no base."""
    found = context.get(KNOWLEDGE)
    if found is None:
        return {}
    grounding = Grounding.model_validate(found[_GROUNDING])
    citations = cited(text, len(grounding.citations))
    grounding = grounding.model_copy(
        update={
            "citations": tuple(
                each.model_copy(update={"cited": each.number in citations.numbers}) for each in grounding.citations
            ),
            "unknown": citations.unknown[:MAX_UNKNOWN],
        }
    )
    return {"grounding": grounding}
