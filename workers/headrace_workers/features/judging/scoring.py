"""From criteria to scores: one score for each criterion, in the job's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace_schemas import (
    Bleu,
    ChrF,
    Contains,
    Cosine,
    Criterion,
    ExactMatch,
    FuzzyMatch,
    Gleu,
    Grounded,
    HeadraceError,
    JsonSchema,
    JsonValid,
    Language,
    Length,
    NotJudged,
    Pairwise,
    Regex,
    Rouge,
    Rubric,
    Score,
    TokenF1,
)
from headrace_schemas.reasons import reason_of
from headrace_workers.features.judging import checks, reference
from headrace_workers.features.judging.ask_model import Found, Position, ask_all, judged_by, trouble
from headrace_workers.features.judging.scores import (
    Subject,
    called,
    code_of,
    drawn,
    left_out,
    probability_of,
    rounds,
    scored,
    unscored,
)
from headrace_workers.models.generator import Generator

_BLOCKED = "the output was blocked by moderation"
_NO_REFERENCE = "the job gave no reference to compare with"
_NOT_LOOKED_UP = "no worker with an embedder looked at it: run one with the role recall"


@dataclass(frozen=True, slots=True)
class Scored:
    """A subject's scores, by the places of their criteria; another model answers those in `pending`. `trouble` is a
    passing error of the model: the subject is worth another try.
    """

    found: Mapping[int, Score]
    pending: tuple[int, ...] = ()
    trouble: HeadraceError | None = None

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that there are, in the order of the criteria."""
        return tuple(self.found[place] for place in sorted(self.found))


def score_all(subjects: Sequence[Subject], generator: Generator | None, fault: str | None = None) -> list[Scored]:
    """Return the scores of each subject; the i-th item belongs to the i-th subject. An error of the model is raised
    while the call has other subjects: a smaller group can tell which of them caused it.
    """
    found: Found = {(i, j): score for i, subject in enumerate(subjects) for j, score in subject.before.items()}
    for which in (0, 1):
        places = [
            (i, j)
            for i, subject in enumerate(subjects)
            for j in rounds(subject.criteria)[which]
            if (i, j) not in found and not _doubts_what_is_pending(i, j, subject, found)
        ]
        if places:
            found |= _judged(places, subjects, generator, found, fault)
    return [_collect(i, subject, found, generator) for i, subject in enumerate(subjects)]


def next_judge(subject: Subject, pending: Sequence[int]) -> str:
    """Return the model that answers the first of these criteria that wait for another model."""
    criteria = (subject.criteria[place] for place in pending)
    keys = {subject.criteria[place].key for place in pending}
    return next(
        criterion.model
        for criterion in criteria
        if isinstance(criterion, Rubric | Pairwise)
        and criterion.model in subject.elsewhere
        and (criterion.uncertain is None or criterion.uncertain.criterion not in keys)
    )


_Compares = ExactMatch | TokenF1 | ChrF | Bleu | Gleu | Rouge | FuzzyMatch


def score_plain(criterion: Criterion, subject: Subject, embedded: Score | None = None) -> Score:
    """Return the score of a criterion that needs no model. `embedded` has scores that an embedder's worker found."""
    if subject.output is None:
        return unscored(criterion, NotJudged.BLOCKED, _BLOCKED)
    expected = subject.expected_by(criterion)
    if expected is None and isinstance(criterion, _Compares | Cosine):
        return unscored(criterion, NotJudged.NO_REFERENCE, _NO_REFERENCE)
    note: str | None = None
    try:
        match criterion:
            case ExactMatch() | TokenF1() | ChrF() | Bleu() | Gleu() | Rouge() | FuzzyMatch():
                value = _compared(criterion, subject.output, expected or "")
            case Contains() | Regex() | JsonValid() | Language() | Length():
                value = _checked(criterion, subject.output)
            case JsonSchema():
                value, note = checks.json_schema(subject.output, criterion.json_schema)
            case Grounded() | Cosine():
                if embedded is None:
                    return unscored(criterion, NotJudged.NO_WORKER, _NOT_LOOKED_UP)
                return embedded.model_copy(update=called(criterion))
            case Rubric() | Pairwise():
                raise TypeError("this criterion needs a model: score_all asks it")
    except HeadraceError as error:
        return unscored(criterion, code_of(error), reason_of(error))
    return scored(criterion, value=value, note=note)


def _compared(criterion: _Compares, output: str, expected: str) -> float:
    match criterion:
        case ExactMatch():
            same = reference.exact_match(output, expected, ignore_case=criterion.ignore_case, trim=criterion.trim)
            figure = 1.0 - same if criterion.differs else same
        case TokenF1():
            figure = reference.token_f1(output, expected)
        case ChrF():
            figure = reference.chrf(output, expected)
        case Bleu():
            figure = reference.bleu(output, expected)
        case Gleu():
            figure = reference.gleu(output, expected)
        case FuzzyMatch():
            figure = reference.fuzzy_match(output, expected)
        case Rouge(variant="l"):
            figure = reference.rouge_l(output, expected)
        case Rouge():
            figure = reference.rouge_n(output, expected, int(criterion.variant))
    return figure


def _checked(criterion: Contains | Regex | JsonValid | Language | Length, output: str) -> float:
    match criterion:
        case Contains():
            return checks.contains(output, criterion.text, ignore_case=criterion.ignore_case)
        case Regex():
            return checks.regex(output, criterion.pattern)
        case JsonValid():
            return checks.json_valid(output)
        case Language():
            return checks.language(output, criterion.language)
        case Length():
            return checks.length(output, min_words=criterion.min_words, max_words=criterion.max_words)


def _judged(
    places: Sequence[Position],
    subjects: Sequence[Subject],
    generator: Generator | None,
    before: Found,
    fault: str | None,
) -> Found:
    """Return the scores of these criteria: a random one with its probability, or left out by it."""
    found: Found = {}
    chances: dict[Position, float] = {}
    questions: dict[Position, Rubric | Pairwise] = {}
    for i, j in places:
        criterion = subjects[i].criteria[j]
        subject = subjects[i].seen_by(criterion)
        probability = probability_of(criterion, _scores_of(i, subject, before))
        if probability is not None:
            chances[i, j] = probability
            if not drawn(subject.job_id, probability):
                found[i, j] = left_out(criterion, probability)
                continue
        if isinstance(criterion, Rubric | Pairwise) and subject.output is not None:
            if criterion.model is None or criterion.model not in subject.elsewhere:
                questions[i, j] = criterion
        else:
            found[i, j] = _score_plain(criterion, subject, subject.embedded.get(j))
    found |= ask_all(questions, subjects, generator, fault)
    for place, chance in chances.items():
        if isinstance(score := found.get(place), Score):
            found[place] = score.model_copy(update={"probability": chance})
    return found


def _doubts_what_is_pending(i: int, j: int, subject: Subject, found: Found) -> bool:
    """Return True if a criterion depends on the score of another one that is still pending."""
    doubt = subject.criteria[j].uncertain
    if doubt is None:
        return False
    about = (place for place, criterion in enumerate(subject.criteria) if criterion.key == doubt.criterion)
    return any((i, place) not in found for place in about)


def _scores_of(i: int, subject: Subject, found: Found) -> dict[str, Score]:
    """Return the scores that a subject has, by the names of their criteria."""
    scores = ((criterion.key, found.get((i, j))) for j, criterion in enumerate(subject.criteria))
    return {key: score for key, score in scores if isinstance(score, Score)}


def _score_plain(criterion: Criterion, subject: Subject, embedded: Score | None) -> Score | HeadraceError:
    try:
        return score_plain(criterion, subject, embedded)
    except Exception as error:
        return trouble(error)


def _collect(i: int, subject: Subject, found: Found, generator: Generator | None) -> Scored:
    scores: dict[int, Score] = {}
    pending: list[int] = []
    first: HeadraceError | None = None
    for j, criterion in enumerate(subject.criteria):
        score = found.get((i, j))
        if score is None:
            pending.append(j)
            continue
        if isinstance(score, HeadraceError):
            first = first or score
            judge = judged_by(generator) if generator and isinstance(criterion, Rubric | Pairwise) else {}
            score = unscored(criterion, NotJudged.FAILED, f"given up: {reason_of(score)}", **judge)
        scores[j] = score
    return Scored(scores, tuple(pending), first)
