"""The step that decides what of an output may be shown."""

from collections.abc import Sequence

from headrace_schemas import Category, HeadraceError, Moderated, ModerationVerdict, Output
from headrace_schemas.reasons import reason_of
from headrace_workers.ledger.entries import Admit, Disallow, Withdraw
from headrace_workers.ledger.rows import Written
from headrace_workers.ports import Moderation, Moderator
from headrace_workers.steps.grounding import USED
from headrace_workers.steps.outcome import Dead, Done, Outcome, Retry
from headrace_workers.steps.recall import CONTEXT, ENTRY, GIVEN, TTL_MS
from headrace_workers.steps.task import Task


def moderate(tasks: Sequence[Task], *, moderator: Moderator) -> list[Outcome]:
    """Moderate the output of each task; the i-th outcome belongs to the i-th task.

    An answer that others wait for, or would be given, is theirs from here on, if it is allowed as it is.

    A text that the moderator cannot decide about is tried again, whatever the category of the error: it is never passed
    on unmoderated.
    """
    places = [i for i, task in enumerate(tasks) if isinstance(task.event, Output)]
    outputs = [task.event for task in tasks if isinstance(task.event, Output)]
    verdicts = moderator.moderate([output.text for output in outputs])
    outcomes: list[Outcome] = [_not_an_output(task) for task in tasks]
    for place, output, verdict in zip(places, outputs, verdicts, strict=True):
        outcomes[place] = _outcome(tasks[place], output, verdict)
    return outcomes


def _outcome(task: Task, output: Output, verdict: Moderation | HeadraceError) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Retry(reason=reason_of(verdict), category=Category.TRANSIENT)
    return Done(
        Moderated(
            job_id=output.job_id,
            tenant=output.tenant,
            answer=output.answer.with_text(None if verdict.action == "block" else verdict.text),
            moderation=ModerationVerdict(action=verdict.action, findings=verdict.findings),
        ),
        rows=_admission(task, output, verdict.action),
    )


def _admission(task: Task, output: Output, action: str) -> tuple[Written, ...]:
    """What becomes of the entry that this job was to fill, or was served."""
    asked = task.context.get(CONTEXT, {})
    if GIVEN in asked:
        return () if action == "allow" else (Disallow(asked[GIVEN], f"moderation would {action} it now"),)
    if ENTRY not in asked:
        return ()
    entry_id = asked[ENTRY]
    if action != "allow":
        return (Withdraw(entry_id),)
    ran = next((each.ran_ms / each.group_size for each in reversed(task.stages) if each.stage == "generate"), 0.0)
    answer = output.answer.model_copy(update={"recall": None}).model_dump_json(exclude_none=True)
    used = tuple((document_id, sha256) for document_id, sha256 in task.context.get(USED, ()))
    return (Admit(entry_id, answer.encode(), ran, asked[TTL_MS], used),)


def _not_an_output(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"moderation takes outputs, not {type(task.event).__name__}")
