"""Which steps may share one call, and which queue they wait in: pure functions of the job."""

import re

from headrace_schemas import EvaluationJob, GenerationJob

Job = GenerationJob | EvaluationJob

MODERATE_QUEUE = "moderate"
JUDGE_QUEUE = "judge"
_MODEL_QUEUE = "model."

# What makes a token, about: a word, a digit, any other sign. Only for sizing groups; the engine counts exactly.
# Of real prompts of 100 tokens this is 2 off where characters / 4 are 7 off; prompts that are grouped by a poor guess
# of their length cost a tenth of a model's speed.
_PIECE = re.compile(r"[A-Za-z]{1,12}|[^\sA-Za-z]")


def model_queue(alias: str) -> str:
    """The queue of the workers that hold this model."""
    return f"{_MODEL_QUEUE}{alias}"


def is_model_queue(queue: str) -> bool:
    """Whether a model runs what waits in this queue."""
    return queue.startswith(_MODEL_QUEUE)


def model_of(queue: str) -> str | None:
    """The model that runs what waits in this queue; None when no model does."""
    return queue.removeprefix(_MODEL_QUEUE) if is_model_queue(queue) else None


def queues(aliases: list[str]) -> list[str]:
    """Every queue that there is when these models are served."""
    return [MODERATE_QUEUE, JUDGE_QUEUE, *(model_queue(alias) for alias in aliases)]


def estimate_tokens(job: Job) -> int:
    """How many tokens a job may cost at most, roughly: what it reads and what it may write."""
    if isinstance(job, GenerationJob):
        return sum(_pieces(message.content) for message in job.conversation) + job.sampling.max_tokens
    return _pieces(job.input) + _pieces(job.output) + 1


def _pieces(text: str) -> int:
    return len(_PIECE.findall(text))


def generate_group(job: GenerationJob, job_id: str) -> str:
    """Jobs of one group agree in model and sampling, and write answers of about the same length.

    A seeded sample must not depend on its neighbours, so it runs alone.
    """
    s = job.sampling
    longest = max(16, 1 << (s.max_tokens - 1).bit_length())
    if s.temperature == 0:
        return f"generate|{job.model}|{longest}"
    alone = f"|{job_id}" if s.seed is not None else ""
    return f"generate|{job.model}|{longest}|{s.temperature}|{s.top_p}|{s.top_k}{alone}"


def judge_model(job: Job, default: str | None) -> str | None:
    """Who answers this job's rubrics: the model they name, else the deployment's judge, else the job's own model.

    None when no model is asked for, or none is known.
    """
    if not job.wants_rubric:
        return None
    named = next(iter(job.rubric_models), None)
    own = job.model if isinstance(job, GenerationJob) else None
    return named or default or own
