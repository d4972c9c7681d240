"""The stage in which a model answers, and which jobs may share one call of it."""

from typing import Final

from headrace_schemas import GenerationJob
from headrace_workers.core.pipeline.stage import FurtherAnswers, ReadBytes, Stage, Weight, no_further_answers
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.generation.engines.prefixes import digest_of
from headrace_workers.features.generation.most_tokens import tokens_at_most
from headrace_workers.features.generation.step import generate
from headrace_workers.features.generation.structured.in_prompt import with_format


def own_model(_job_id: str, job: Job, _judge: str | None) -> str | None:
    """Return the model that a generation job names; None for other jobs."""
    return job.first_model if isinstance(job, GenerationJob) else None


def own_chain(job: Job) -> tuple[str, ...]:
    """Return the models that may answer a generation job, in order; none of other jobs."""
    return job.chain if isinstance(job, GenerationJob) else ()


def sampling_group(job: Job, job_id: str) -> str:
    """Return the group of jobs that agree in sampling, and write answers of about the same length.

    A seeded sample must not depend on its neighbours, so it runs alone. Answers that are held to a format take longer
    than free ones, which would wait for them, since a group's answers come together.
    """
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    s = job.sampling
    longest = f"{max(16, 1 << (s.max_tokens - 1).bit_length())}{'|held' if _is_held(job) else ''}"
    if s.repetition_penalty is not None:
        longest = f"{longest}|r{s.repetition_penalty}"
    if s.temperature == 0:
        return longest
    alone = f"|{job_id}" if s.seed is not None else ""
    return f"{longest}|{s.temperature}|{s.top_p}|{s.top_k}{alone}"


def shared_prefix(job: Job) -> int | None:
    """Return the same number for all jobs of a tenant that begin with the same long system prompt and tools; None for
    others.
    """
    if not isinstance(job, GenerationJob) or not (job.messages or job.tools):
        return None
    return digest_of(job.tenant, with_format(job.messages, job), job.offer)


def most_tokens(job: Job, read: ReadBytes) -> int:
    """Return the most tokens that one answer may read and write, whatever tokenizer counts them."""
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    turns, tools = with_format(job.conversation, job), job.offer.tools
    return tokens_at_most(turns, job.output, tools, job.sampling.max_tokens, carried=read.carried)


def further_answers(job: Job) -> FurtherAnswers:
    """Return the further answer of a job that asks for a format or a call: one that lacks it may be asked for again."""
    return FurtherAnswers(1) if isinstance(job, GenerationJob) and _is_held(job) else no_further_answers(job)


def _is_held(job: GenerationJob) -> bool:
    return job.output is not None or bool(job.offer)


GENERATE: Final = Stage(
    name="generate",
    order=40,
    takes=(GenerationJob,),
    step=generate,
    weight=Weight.MODEL,
    needs=("shown", "cancelled"),
    model=own_model,
    chain=own_chain,
    group=sampling_group,
    prefix=shared_prefix,
    most_tokens=most_tokens,
    further_answers=further_answers,
)
