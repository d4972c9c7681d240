"""The text that a person wrote instead of a held answer: it goes on as the job's output, and is moderated as any."""

from typing import Final

from headrace_schemas import Moderated, Output
from headrace_workers.core.pipeline.task import CORRECTED, HELD, Task
from headrace_workers.features.knowledge.grounding import answer_fields

MODERATE: Final = "moderate"  # the stage to which it goes


def by_person(task: Task) -> Output | None:
    """Return the output that a person wrote while the task was held; None where nobody did."""
    text = task.context.get(HELD, {}).get(CORRECTED)
    if text is None or not isinstance(task.event, Output | Moderated):
        return None
    changed = {"text": text, "tool_calls": (), "finish_reason": "stop", "by_person": True}
    answer = type(task.event.answer).model_validate(
        {**dict(task.event.answer), **changed, **answer_fields(task.context, text)}
    )
    return Output(job_id=task.job_id, tenant=task.job.tenant, answer=answer)
