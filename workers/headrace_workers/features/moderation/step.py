"""The step that decides what of an output may be shown, and says of other texts whether they could be."""

from collections.abc import Sequence
from typing import Final

from headrace_schemas import Category, GenerationJob, HeadraceError, Moderated, ModerationJob, ModerationVerdict, Output
from headrace_schemas.errors import Unparsable
from headrace_schemas.moderation import Action
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Outcome, StepWrite
from headrace_workers.core.pipeline.receipt import receipt, review_reason
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Instructions, Moderation, Moderator
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import CONTEXT, ENTRY, GIVEN, PLACES, TTL_MS
from headrace_workers.features.cache.store.entries import Admit, Disallow, EntryKeys, Withdraw
from headrace_workers.features.generation.structured.validity import failure_of
from headrace_workers.features.knowledge.grounding import USED
from headrace_workers.features.moderation.asked_again import send_back, whole
from headrace_workers.features.moderation.call_texts import text_of, with_redacted
from headrace_workers.features.moderation.canary import UNMARKED, Canaries

_CALL_LOST: Final = "without what is redacted, the arguments of its call would not be what the tool takes"


def moderate(tasks: Sequence[Task], *, moderator: Moderator, canaries: Canaries = UNMARKED) -> list[Outcome]:
    """Moderate the output of each task, or the text that it brings; the i-th outcome belongs to the i-th task.
    `canaries` know the instructions of an output's model.

    The cache may share an answer from here on, if it is allowed unchanged.

    An answer marked `review` is held until a person has decided; a text that a job brings is only marked. An answer
    that its model is to write again sends the job back.

    A text that the moderator cannot decide about is held until it can, whatever the category of the error: it is never
    passed on unmoderated.
    """
    texts = {place: text for place, task in enumerate(tasks) if (text := _text(task)) is not None}
    instructions = [_instructions(tasks[place], canaries) for place in texts]
    verdicts = moderator.moderate(list(texts.values()), [tasks[place].job.tenant for place in texts], instructions)
    outcomes = {place: _outcome(tasks[place], verdict) for place, verdict in zip(texts, verdicts, strict=True)}
    return [outcomes.get(place) or _no_text(task) for place, task in enumerate(tasks)]


def _text(task: Task) -> str | None:
    match task.event:
        case Output() as output:
            return text_of(output.answer)
        case ModerationJob() as job:
            return job.input
    return None


def _instructions(task: Task, canaries: Canaries) -> Instructions | None:
    """Return the instructions of the model that wrote this text; None if it was written elsewhere."""
    if isinstance(task.event, Output) and isinstance(task.job, GenerationJob):
        return canaries.instructions(task.job.tenant, task.job.messages)
    return None


def _outcome(task: Task, verdict: Moderation | HeadraceError) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Held(reason_of(verdict), needs_person=False)
    if not isinstance(task.event, Output):
        return Ended(receipt(task, moderation=verdict.verdict))
    if (sent_back := send_back(task, task.event, verdict)) is not None:
        return sent_back
    if verdict.action != "review":
        return _passed_on(task, task.event, verdict, verdict.verdict)
    if task.woken_by != RELEASED:
        return Held(review_reason(verdict.verdict))
    done: Action = "allow" if verdict.text == text_of(task.event.answer) else "redact"
    return _passed_on(task, task.event, verdict, verdict.verdict.model_copy(update={"action": done}))


def _passed_on(task: Task, output: Output, verdict: Moderation, shown: ModerationVerdict) -> Done:
    """Return the text that goes on, and the effect of the policy's verdict on the cache."""
    answer, context = whole(task.context, output.answer)
    text = None if verdict.action == "block" else verdict.text
    if text is not None and (lost := _lost_format(task, output, text)) is not None:
        text, shown = None, shown.model_copy(update={"action": "block", "reason": lost})
    if text is not None and answer.tool_calls:
        assert isinstance(task.job, GenerationJob)  # noqa: S101 - only such a job offers tools
        redacted = with_redacted(answer, text, task.job.tools)
        if redacted is None:
            shown = shown.model_copy(update={"action": "block", "reason": _CALL_LOST})
        answer, text = (answer, None) if redacted is None else (redacted, redacted.text)
    return Done(
        Moderated(
            job_id=output.job_id,
            tenant=output.tenant,
            answer=answer.with_text(text),
            moderation=shown,
        ),
        context=context,
        rows=_admission(task, output, verdict.action),
    )


def _lost_format(task: Task, output: Output, text: str) -> str | None:
    """Return why an answer may not be shown with this text: redaction took its format from it. None where it may be."""
    wanted = task.job.format_of(output.answer.tool_calls) if isinstance(task.job, GenerationJob) else None
    if wanted is None or text == output.text:
        return None
    failure = failure_of(wanted, text, "stop")  # as a whole: the answer had its format
    return None if failure is None else reason_of(Unparsable(f"without what is redacted, {failure}"))


def _admission(task: Task, output: Output, action: str) -> tuple[StepWrite, ...]:
    """Return the change of the cache entry that this job fills, or from which it was served."""
    state = task.context.get(CONTEXT, {})
    if GIVEN in state:
        return () if action == "allow" else (Disallow(state[GIVEN], f"moderation would {action} it now"),)
    if ENTRY not in state:
        return ()
    entry_id = state[ENTRY]
    place = state.get(PLACES, {}).get(output.answer.model)
    if action != "allow" or (place is None and not _is_of_first_model(task, output)):
        return (Withdraw(entry_id),)
    ran = next((each.ran_ms / each.group_size for each in reversed(task.stages) if each.stage == "generate"), 0.0)
    answer = output.answer.model_copy(update={"recall": None}).model_dump_json(exclude_none=True)
    used = tuple((document_id, sha256) for document_id, sha256 in task.context.get(USED, ()))
    return (Admit(entry_id, answer.encode(), ran, state[TTL_MS], used, EntryKeys(*place) if place else None),)


def _is_of_first_model(task: Task, output: Output) -> bool:
    """Return True if the model answered that the cache looked up: the first one of a chain."""
    return isinstance(task.job, GenerationJob) and output.answer.model == task.job.first_model


def _no_text(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"moderation takes outputs and moderation jobs, not {type(task.event).__name__}")
