"""The step that judges by what needs an embedder: whether what an answer says stands in what it was given, and how like
its reference it is. Judging reads what it found.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from headrace_schemas import Cosine, EvaluationJob, GenerationJob, Grounded, HeadraceError, Moderated, NotJudged, Score
from headrace_schemas.events import Unsupported
from headrace_schemas.job import JudgedJob
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_UNSUPPORTED
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import CountingEmbedder
from headrace_workers.features.judging.carried_scores import EMBEDDED, to_context
from headrace_workers.features.judging.criterion_sampling import may_be_judged
from headrace_workers.features.judging.unjudged import TooLongToEmbed, code_of
from headrace_workers.features.knowledge.grounding import turn_of
from headrace_workers.features.knowledge.prompt import passages_of

if TYPE_CHECKING:
    from headrace_workers.features.judging.groundedness.ground import Groundedness

_NAME: Final = Grounded().criterion
_NOT_CHECKED: Final = "not checked: denials, swapped roles, inventions within the topic"


class _Nothing(NamedTuple):
    """Why there is nothing that the answer may rest on."""

    code: NotJudged
    reason: str


_NOTHING_GIVEN: Final = _Nothing(NotJudged.NO_CONTEXT, "the job gave no context to look it up in")
_NO_PASSAGES: Final = _Nothing(
    NotJudged.NO_PASSAGES, "no passage was given to the model, or the answer was known already"
)


def ground_answers(tasks: Sequence[Task], *, embedder: Callable[[], CountingEmbedder]) -> list[Outcome]:
    """Look each task's answer up, or hold it to its reference; the i-th outcome belongs to the i-th task.

    It is looked up in what it was given: the context of an evaluation, the passages of a generation that names a
    knowledge base, and of another its prompt. Every job goes on: what keeps one from being looked up is the reason in
    its score.
    """
    return [_outcome(task, embedder) for task in tasks]


def _outcome(task: Task, embedder: Callable[[], CountingEmbedder]) -> Outcome:
    answer, given = _read(task)
    if not isinstance(task.job, JudgedJob):
        return Done()
    found: dict[int, Score] = {}
    passing: HeadraceError | None = None
    # If moderation blocked the answer, judging says so.
    for place, criterion in enumerate(task.job.criteria):
        text = answer if criterion.output is None else criterion.output
        if text is None or not isinstance(criterion, Grounded | Cosine) or not may_be_judged(task.job_id, criterion):
            continue
        try:
            score = _looked_up(criterion, text, given, task.job.reference, embedder, numbered=_has_passages(task))
        except HeadraceError as error:
            passing = passing or (error if error.category.retryable else None)
            score = _unscored(criterion, _Nothing(code_of(error), reason_of(error)))
        if score is not None:
            found[place] = score
    if passing is None:
        return _done(found)
    return Retry(reason_of(passing), category=passing.category, otherwise=_done(found))


def _looked_up(
    criterion: Grounded | Cosine,
    answer: str,
    given: "Sequence[str] | _Nothing",
    reference: str | None,
    embedder: Callable[[], CountingEmbedder],
    *,
    numbered: bool,
) -> Score | None:
    """Return the score without the criterion's name; None if judging itself says what is missing."""
    if isinstance(criterion, Cosine):
        expected = reference if criterion.reference is None else criterion.reference
        if expected is None:
            return None
        return Score(criterion=criterion.criterion, value=_cosine(answer, expected, embedder()))
    if isinstance(given, _Nothing):
        return _unscored(criterion, given)
    from headrace_workers.features.judging.groundedness.ground import ground

    return _score(ground(answer, given, embedder(), numbered=numbered))


def _read(task: Task) -> tuple[str | None, "Sequence[str] | _Nothing"]:
    """Return the answer, and the texts that it may rest on, or why there are none."""
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


def _has_passages(task: Task) -> bool:
    """Return True if the context has numbered passages that an answer may cite."""
    return isinstance(task.job, GenerationJob) and task.job.knowledge is not None


def _score(found: "Groundedness") -> Score:
    if not found.sentences:
        reason = "the answer says nothing that could be looked up"
        return Score(criterion=_NAME, not_judged=NotJudged.NOTHING_SAID, reason=reason)
    beyond = f"; {found.beyond} more sentences were not looked up" if found.beyond else ""
    named = tuple(
        Unsupported(
            start=each.start,
            stop=each.stop,
            support=round(each.probability, 3),
            reason=each.reason[:MAX_SHORT_TEXT],
            checked=each.checked,
        )
        for each in found.unsupported[:MAX_UNSUPPORTED]
    )
    return Score(criterion=_NAME, value=found.share, unsupported=named, note=_NOT_CHECKED + beyond)


def _unscored(criterion: Grounded | Cosine, why: _Nothing) -> Score:
    return Score(criterion=criterion.criterion, not_judged=why.code, reason=why.reason)


def _done(scores: Mapping[int, Score]) -> Done:
    return Done(context=to_context(EMBEDDED, scores))


def _cosine(output: str, reference: str, embedder: CountingEmbedder) -> float:
    """Return the cosine of both vectors, 0 at least. Raise TooLongToEmbed where a text is not read whole."""
    room = embedder.max_tokens - embedder.added_tokens
    for what, text in (("output", output), ("reference", reference)):
        if (tokens := embedder.count_tokens(text)) > room:
            raise TooLongToEmbed(f"the {what} has {tokens:,} tokens, and the embedder reads {room:,}")
    ours, theirs = embedder.embed([output, reference])
    return min(1.0, max(0.0, float(ours @ theirs)))
