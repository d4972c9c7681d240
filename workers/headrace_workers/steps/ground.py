"""The step that looks whether what an answer says stands in what it was given. Judging reads what it found."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headrace_schemas import EvaluationJob, GenerationJob, Grounded, HeadraceError, Moderated, NotJudged, Score
from headrace_schemas.events import Unsupported
from headrace_schemas.job import JudgedJob
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_UNSUPPORTED
from headrace_schemas.reasons import reason_of
from headrace_workers.knowledge.prompt import passages_of
from headrace_workers.ports import CountingEmbedder
from headrace_workers.steps.grounding import turn_of
from headrace_workers.steps.outcome import Done, Outcome, Retry
from headrace_workers.steps.task import Task

if TYPE_CHECKING:
    from headrace_workers.groundedness.ground import Groundedness

_NAME: Final = Grounded().criterion
_CONTEXT: Final = "grounded"


class _Nothing(NamedTuple):
    """Why there is nothing that the answer may rest on."""

    code: NotJudged
    reason: str


_NOTHING_GIVEN: Final = _Nothing(NotJudged.NO_CONTEXT, "the job gave no context to look it up in")
_NO_PASSAGES: Final = _Nothing(
    NotJudged.NO_PASSAGES, "no passage was given to the model, or the answer was known already"
)


def ground_answers(tasks: Sequence[Task], *, embedder: Callable[[], CountingEmbedder]) -> list[Outcome]:
    """Look each task's answer up in what it was given; the i-th outcome belongs to the i-th task.

    That is the context of an evaluation, the passages of a generation that names a knowledge base, and of another
    its prompt. Every job goes on: what keeps one from being looked up is the reason in its score.
    """
    return [_outcome(task, embedder) for task in tasks]


def _outcome(task: Task, embedder: Callable[[], CountingEmbedder]) -> Outcome:
    answer, given = _read(task)
    if answer is None:
        return Done()  # moderation blocked it, and judging says so
    if isinstance(given, _Nothing):
        return _said(Score(criterion=_NAME, not_judged=given.code, reason=given.reason))
    from headrace_workers.groundedness.ground import ground

    try:
        return _said(_score(ground(answer, given, embedder())))
    except HeadraceError as error:
        given_up = _said(Score(criterion=_NAME, not_judged=NotJudged.FAILED, reason=reason_of(error)))
        if not error.category.retryable:
            return given_up
        return Retry(reason_of(error), category=error.category, otherwise=given_up)


def _read(task: Task) -> tuple[str | None, "Sequence[str] | _Nothing"]:
    """The answer, and the texts that it may rest on or why there are none."""
    match task.job, task.event:
        case EvaluationJob() as job, _:
            return job.output, [job.context] if job.context else _NOTHING_GIVEN
        case GenerationJob() as job, Moderated() as event:
            if job.knowledge is None:
                return event.answer.text, [message.content for message in job.conversation]
            turn = turn_of(task.context)
            return event.answer.text, _NO_PASSAGES if turn is None else passages_of(turn)
        case _:
            return None, _NOTHING_GIVEN


def _score(found: "Groundedness") -> Score:
    if not found.sentences:
        reason = "the answer says nothing that could be looked up"
        return Score(criterion=_NAME, not_judged=NotJudged.NOTHING_SAID, reason=reason)
    beyond = f"{found.beyond} more sentences were not looked up" if found.beyond else None
    named = tuple(
        Unsupported(
            start=each.start, stop=each.stop, support=round(each.probability, 3), reason=each.reason[:MAX_SHORT_TEXT]
        )
        for each in found.unsupported[:MAX_UNSUPPORTED]
    )
    return Score(criterion=_NAME, value=found.share, unsupported=named, note=beyond)


def _said(score: Score) -> Done:
    return Done(context={_CONTEXT: score.model_dump(mode="json", exclude_none=True)})


def wants_grounding(job: object) -> bool:
    """Whether one of a job's criteria is answered here."""
    return isinstance(job, JudgedJob) and any(isinstance(each, Grounded) for each in job.criteria)


def grounded_score(context: Mapping[str, Any]) -> Score | None:
    """What was found, as judging hands it on; None where nobody looked."""
    found = context.get(_CONTEXT)
    return None if found is None else Score.model_validate(found)
