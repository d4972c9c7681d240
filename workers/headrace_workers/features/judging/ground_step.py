"""The step that judges by what needs an embedder: whether what an answer says stands in what it was given, and how like
its reference it is. Judging reads what it found. A verifier that runs here is asked at once; one that is a model of the
deployment is asked in the stage `verify_claims`, from which the job comes back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from headrace_schemas import Cosine, EvaluationJob, GenerationJob, Grounded, HeadraceError, Moderated, NotJudged, Score
from headrace_schemas.errors import Unavailable
from headrace_schemas.events import Unsupported, VerifiedSentences
from headrace_schemas.job import JudgedJob
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_UNSUPPORTED
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.judging.scores import (
    EMBEDDED,
    TooLongToEmbed,
    code_of,
    from_context,
    may_be_judged,
    to_context,
)
from headrace_workers.features.knowledge.grounding import turn_of
from headrace_workers.features.knowledge.prompt import passages_of
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.verifiers.verifier import Verdict, Verifier
from headrace_workers.models.verifiers.verify_stage import (
    Verification,
    asking,
    forgotten,
    in_time,
    verification,
)

if TYPE_CHECKING:
    from headrace_workers.features.judging.groundedness.ground import Groundedness

VERIFY_CLAIMS: Final = "verify_claims"  # the stage of the model that verifies
MOST_CLAIMS: Final = 40  # sentences of a job that a verifier is asked about
_LOOKED_UP: Final = "looked_up"  # the name in the context of what waits for verdicts
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


@dataclass(frozen=True, slots=True)
class ClaimVerifier:
    """The verifier of a deployment. One without a `verifier` in this process is a model, which is asked if a worker
    `holds` it. A call here may take `most_seconds`.
    """

    name: str
    verifier: Verifier | None = None
    most_seconds: float = 60.0
    holds: Callable[[str], bool] = lambda _: True


def ground_answers(
    tasks: Sequence[Task], *, embedder: Callable[[], CountingEmbedder], claim_verifier: ClaimVerifier | None = None
) -> list[Outcome]:
    """Look each task's answer up in its context, passages or prompt, or hold it to its reference; the i-th outcome
    belongs to the i-th task. Every job goes on.
    """
    return [_outcome(task, embedder, claim_verifier) for task in tasks]


def _outcome(task: Task, embedder: Callable[[], CountingEmbedder], verifier: ClaimVerifier | None) -> Outcome:
    if (said := verification(task.context)) is not None:
        return _with_verdicts(task, said)
    answer, given = _read(task)
    if not isinstance(task.job, JudgedJob):
        return Done()
    found: dict[int, Score] = {}
    looked_up: dict[int, Groundedness] = {}
    passing: HeadraceError | None = None
    # If moderation blocked the answer, judging says so.
    for place, criterion in enumerate(task.job.criteria):
        text = answer if criterion.output is None else criterion.output
        if text is None or not isinstance(criterion, Grounded | Cosine) or not may_be_judged(task.job_id, criterion):
            continue
        score: Score | None
        try:
            if isinstance(criterion, Grounded) and not isinstance(given, _Nothing):
                left = MOST_CLAIMS - sum(len(groundedness.claims) for groundedness in looked_up.values())
                grounded = _grounded(task, text, given, embedder(), left if verifier is not None else 0)
                score = _score(grounded, None, hints=criterion.hints)
                if grounded.claims:
                    looked_up[place] = grounded
            else:
                score = _looked_up(criterion, text, given, task.job.reference, embedder)
        except HeadraceError as error:
            passing = passing or (error if error.category.retryable else None)
            score = _unscored(criterion, _Nothing(code_of(error), reason_of(error)))
        if score is not None:
            found[place] = score
    done = _done(found) if verifier is None or not looked_up else _asked(task, found, looked_up, verifier)
    if passing is None:
        return done
    return Retry(reason_of(passing), category=passing.category, otherwise=done)


def _asked(task: Task, found: Mapping[int, Score], looked_up: Mapping[int, "Groundedness"], by: ClaimVerifier) -> Done:
    """Ask the verifier about the sentences of an answer: here, or in the stage of its model."""
    from headrace_workers.features.judging.groundedness.ground import pairs_of

    pairs = [pair for groundedness in looked_up.values() for pair in pairs_of(groundedness, task.job.tenant)]
    if by.verifier is not None:
        began = time.monotonic()
        verdicts = in_time(by.verifier, pairs, began + by.most_seconds, by.most_seconds)
        took = (time.monotonic() - began) * 1000
        said = Verification(by.name, by.verifier.provider, tuple(verdicts), took)
        return _done({**found, **_verified(task, looked_up, said)})
    if not by.holds(by.name):
        away = Unavailable(f"no worker holds {by.name}")
        nothing = Verification(by.name, None, (away,) * len(pairs), 0.0)
        return _done({**found, **_verified(task, looked_up, nothing)})
    waiting = {str(place): asdict(groundedness) for place, groundedness in looked_up.items()}
    return asking(pairs, VERIFY_CLAIMS, {**to_context(EMBEDDED, found), _LOOKED_UP: waiting})


def _with_verdicts(task: Task, said: Verification) -> Done:
    """Return the outcome of a job that came back from the verifier."""
    from headrace_workers.features.judging.groundedness.ground import groundedness_in

    looked_up = {int(place): groundedness_in(item) for place, item in (task.context.get(_LOOKED_UP) or {}).items()}
    found = {**from_context(EMBEDDED, task.context), **_verified(task, looked_up, said)}
    return Done(context={**to_context(EMBEDDED, found), _LOOKED_UP: None, **forgotten()})


def _verified(task: Task, looked_up: Mapping[int, "Groundedness"], said: Verification) -> dict[int, Score]:
    """Return the scores by these verdicts, which are in the order of the claims."""
    from headrace_workers.features.judging.groundedness.ground import verified

    scores: dict[int, Score] = {}
    rest = said.verdicts
    for place, groundedness in looked_up.items():
        own, rest = rest[: len(groundedness.claims)], rest[len(groundedness.claims) :]
        criterion = task.job.criteria[place] if isinstance(task.job, JudgedJob) else None
        hints = isinstance(criterion, Grounded) and criterion.hints
        scores[place] = _score(
            verified(groundedness, own), Verification(said.model, said.provider, own, said.ms), hints=hints
        )
    return scores


def _looked_up(
    criterion: Grounded | Cosine,
    answer: str,
    given: "Sequence[str] | _Nothing",
    reference: str | None,
    embedder: Callable[[], CountingEmbedder],
) -> Score | None:
    """Return the score without the criterion's name; None if judging itself says what is missing."""
    if isinstance(criterion, Cosine):
        expected = reference if criterion.reference is None else criterion.reference
        if expected is None:
            return None
        return Score(criterion=criterion.criterion, value=_cosine(answer, expected, embedder()))
    return _unscored(criterion, given) if isinstance(given, _Nothing) else None


def _grounded(
    task: Task, answer: str, given: Sequence[str], embedder: CountingEmbedder, most_claims: int
) -> "Groundedness":
    from headrace_workers.features.judging.groundedness.ground import ground

    return ground(answer, given, embedder, numbered=_has_passages(task), most_claims=most_claims)


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


def _score(found: "Groundedness", said: Verification | None, *, hints: bool) -> Score:
    if not found.sentences:
        reason = "the answer says nothing that could be looked up"
        return Score(criterion=_NAME, not_judged=NotJudged.NOTHING_SAID, reason=reason)
    beyond = f"; {found.beyond} more sentences were not looked up" if found.beyond else ""
    listed = [unsupported for unsupported in found.unsupported if unsupported.checked or hints]
    named = tuple(
        Unsupported(
            start=unsupported.start,
            stop=unsupported.stop,
            support=round(unsupported.probability, 3),
            reason=unsupported.reason[:MAX_SHORT_TEXT],
            checked=unsupported.checked,
        )
        for unsupported in listed[:MAX_UNSUPPORTED]
    )
    verified = None if said is None else _use_of(said)
    note = _note(found, said) + beyond
    return Score(criterion=_NAME, value=found.share, unsupported=named, verified=verified, note=note[:MAX_SHORT_TEXT])


def _use_of(said: Verification) -> VerifiedSentences:
    count = sum(isinstance(verdict, Verdict) for verdict in said.verdicts)
    return VerifiedSentences(model=said.model, provider=said.provider, sentences=count, ms=round(said.ms, 1))


def _note(found: "Groundedness", said: Verification | None) -> str:
    """Return what was not checked, and why not."""
    if said is None:
        return _NOT_CHECKED
    reasons = [reason_of(verdict) for verdict in said.verdicts if isinstance(verdict, HeadraceError)]
    count = len(said.verdicts) - len(reasons)
    if count == found.sentences:
        return f"{said.model} verified every sentence"
    why = f" ({reasons[0]})" if reasons else ""
    return f"{said.model} verified {count} of {found.sentences} sentences{why}; of the others {_NOT_CHECKED}"


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
