"""The step that looks at what a user asks, before anything is looked up and any model is run."""

from collections.abc import Sequence

from headrace_schemas import Category, GenerationJob, HeadraceError
from headrace_schemas.reasons import reason_of
from headrace_workers.ledger.tables.core import RELEASED
from headrace_workers.ports import Moderation, Moderator
from headrace_workers.steps.outcome import Dead, Done, Ended, Held, Outcome
from headrace_workers.steps.passages import SCREENED
from headrace_workers.steps.receipt import receipt
from headrace_workers.steps.review import asks_person
from headrace_workers.steps.task import Task


def screen(tasks: Sequence[Task], *, screener: Moderator) -> list[Outcome]:
    """Screen the prompt of each task; the i-th outcome belongs to the i-th task.

    A job whose prompt the policy blocks ends here, and its receipt says so. One that is to be reviewed, or that nobody
    could look at, is held. Every other goes on as it came: nothing is redacted in a prompt. What is added to it later
    is screened, too.
    """
    jobs = {place: task.job for place, task in enumerate(tasks) if isinstance(task.job, GenerationJob)}
    verdicts = screener.moderate([asked(job) for job in jobs.values()], [job.tenant for job in jobs.values()])
    outcomes: list[Outcome] = [_no_prompt(task) for task in tasks]
    for place, verdict in zip(jobs, verdicts, strict=True):
        outcomes[place] = _outcome(tasks[place], verdict)
    return outcomes


def asked(job: GenerationJob) -> str:
    """All that the user said in the conversation, a turn after the other. What the system says is the operator's, and
    what the assistant said was moderated when it was.
    """
    return "\n\n".join(message.content for message in job.conversation if message.role == "user")


def _outcome(task: Task, verdict: Moderation | HeadraceError) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Held(reason_of(verdict), needs_person=False)
    if verdict.action == "block":
        return Ended(receipt(task, status="blocked", moderation=verdict.verdict, refusal="prompt_blocked"))
    if verdict.action == "review" and task.woken_by != RELEASED:
        return Held(f"the prompt: {asks_person(verdict.verdict)}")
    return Done(context={SCREENED: True})


def _no_prompt(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"screening takes generation jobs, not {type(task.job).__name__}")
