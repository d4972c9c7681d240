"""The step that looks at what a caller brings, before anything is looked up and any model is run."""

from collections.abc import Callable, Sequence

from headrace_schemas import Category, GenerationJob, HeadraceError, Message
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Outcome
from headrace_workers.core.pipeline.receipt import receipt, review_reason
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Moderation, Moderator
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.knowledge.grounding import SCREENED
from headrace_workers.features.moderation.call_texts import called_with, words_in
from headrace_workers.features.moderation.seen_prompts import SeenPrompts


def screen(
    tasks: Sequence[Task], *, screener: Moderator, seen_prompts: SeenPrompts, trusts_system: Callable[[str], bool]
) -> list[Outcome]:
    """Screen the prompt of each task; the i-th outcome belongs to the i-th task.

    Every turn is the caller's word and is looked at, whatever its role: a caller may write what it likes into a turn of
    the system or the assistant, and so are descriptions of tools. The system's turns, and the tools, of tenants that
    `trusts_system` names are not. A conversation that
    goes on from one that passed here is looked at from there on.

    A job whose prompt the policy blocks ends here, and its receipt says so. One that is to be reviewed, or that nobody
    could look at, is held. Every other job goes on unchanged: nothing is redacted in a prompt. Text that is added to it
    later is screened, too.
    """
    jobs = {place: task.job for place, task in enumerate(tasks) if isinstance(task.job, GenerationJob)}
    turns = {place: brought(job, trusts_system(job.tenant)) for place, job in jobs.items()}
    held = seen_prompts.now()
    texts = [_joined(seen_prompts.new(job.tenant, turns[place])) for place, job in jobs.items()]
    verdicts = screener.moderate(texts, [job.tenant for job in jobs.values()])
    outcomes: list[Outcome] = [_no_prompt(task) for task in tasks]
    for (place, job), verdict in zip(jobs.items(), verdicts, strict=True):
        outcomes[place] = _outcome(tasks[place], verdict)
        if isinstance(verdict, Moderation) and verdict.action in ("allow", "redact"):
            seen_prompts.note(held, job.tenant, turns[place])
    return outcomes


def brought(job: GenerationJob, trusts_system: bool) -> list[Message]:
    """Return the turns of a conversation that its caller brings, without a trusted system's turns. The tools that the
    model may call are a turn of the system.
    """
    if trusts_system:
        return [turn for turn in job.conversation if turn.role != "system"]
    words = "\n\n".join(word for tool in job.tools for word in (tool.description, *words_in(tool.parameters)) if word)
    tools = [Message.model_construct(role="system", content=words)] if words else []
    return [*tools, *job.conversation]


def _joined(turns: Sequence[Message]) -> str:
    return "\n\n".join(text for turn in turns for text in (turn.content, *called_with(turn)))


def _outcome(task: Task, verdict: Moderation | HeadraceError) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Held(reason_of(verdict), needs_person=False)
    if verdict.action == "block":
        return Ended(receipt(task, status="blocked", moderation=verdict.verdict, refusal="prompt_blocked"))
    if verdict.action == "review" and task.woken_by != RELEASED:
        return Held(f"the prompt: {review_reason(verdict.verdict)}")
    return Done(context={SCREENED: True})


def _no_prompt(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"screening takes generation jobs, not {type(task.job).__name__}")
