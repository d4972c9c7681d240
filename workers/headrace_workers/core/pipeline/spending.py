"""What a job may cost, in tokens: of one that may be answered again all its answers, and what is said between them."""

from typing import Final

from headrace_schemas import GenerationJob
from headrace_workers.core.pipeline.grouping import pieces
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.judging.critique import asked_for
from headrace_workers.features.moderation.asked_again import MOST

_AROUND: Final = 200  # tokens around what a criterion asks, or of what moderation objects to


def most_answers(job: Job, *, moderated_again: bool) -> int:
    """How many answers may be made for a job: beside the first those that its floor asks for, and where a policy has
    answers `moderated_again`, those too.
    """
    if not isinstance(job, GenerationJob):
        return 1
    floor = job.min_quality
    attempts = floor.attempts if floor is not None and floor.then == "regenerate" else 0
    return 1 + attempts + (MOST if moderated_again else 0)


def most_tokens(job: Job, once: int, *, moderated_again: bool) -> int:
    """What so many answers may cost, one of which, with its prompt, costs `once`. Each after the first reads the one
    before it, too, and what is wrong with that.
    """
    more = most_answers(job, moderated_again=moderated_again) - 1
    if not more or not isinstance(job, GenerationJob):
        return once
    return once + more * (once + job.sampling.max_tokens + _objection(job))


def _objection(job: GenerationJob) -> int:
    """About how many tokens say what is wrong with an answer."""
    if job.min_quality is None:
        return _AROUND
    wanted = next(each for each in job.criteria if each.key == job.min_quality.criterion)
    said = pieces(asked_for(wanted))
    # It repeats sentences that are not supported.
    return _AROUND + said + (job.sampling.max_tokens if wanted.criterion == "grounded" else 0)
