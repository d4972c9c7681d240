"""The stage in which a model answers, and which jobs may share one call of it."""

from typing import Final
from unicodedata import normalize

from headrace_schemas import GenerationJob, Message
from headrace_workers.core.pipeline.chain import next_in_chain
from headrace_workers.core.pipeline.stage import FurtherAnswers, ReadBytes, Stage, Weight, no_further_answers
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.generation.admission import TURN_TOKENS
from headrace_workers.features.generation.engines.prefixes import digest_of
from headrace_workers.features.generation.step import generate
from headrace_workers.features.generation.structured.in_prompt import with_format
from headrace_workers.features.generation.structured.tools import as_json, described, offered

_OWN_TURNS: Final = 4  # of the template or the provider: a system prompt, the date; and of the marks of features
_ADDED_TURNS: Final = 4  # of features, from what a job carries
_ABOUT_TOOLS: Final = 640  # tokens of words about calls: Anthropic's are up to 530


def own_model(_job_id: str, job: Job, _judge: str | None) -> str | None:
    """Return the model that a generation job names; None for other jobs."""
    return job.first_model if isinstance(job, GenerationJob) else None


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
    return digest_of(job.tenant, with_format(job.messages, job), offered(job.tools, job.tool_choice))


def most_tokens(job: Job, read: ReadBytes) -> int:
    """Return the most tokens that one answer may read and write, whatever tokenizer counts them: no text has more
    tokens than bytes, once it is normalized as the tokenizer may do.

    A format may be read twice, in the prompt and beside it. What a job carries counts whole.
    """
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    turns = with_format(job.conversation, job)
    around = TURN_TOKENS * (len(turns) + _OWN_TURNS + (_ADDED_TURNS if read.carried else 0))
    if job.output is not None:
        around += _tokens_at_most(job.output.model_dump_json())
    if tools := offered(job.tools, job.tool_choice):
        around += _ABOUT_TOOLS + sum(_tokens_at_most(as_json(described(each))) for each in tools)
    return sum(map(_tokens_of_turn, turns)) + read.carried + around + job.sampling.max_tokens


def _tokens_of_turn(turn: Message) -> int:
    """Return the most tokens of a turn's text and calls. A template may write the arguments of a call with more blanks
    than they came with: at most as many as characters.
    """
    calls = sum(2 * _tokens_at_most(f"{each.name}{each.arguments}") + TURN_TOKENS for each in turn.tool_calls)
    return _tokens_at_most(turn.content) + len(turn.tool_call_id or "") + calls


def _tokens_at_most(text: str) -> int:
    """Return the most tokens of a text. Some tokenizers normalize it first, to up to three (NFC) or eleven (NFKC) times
    as many bytes.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii():
        return size
    return max(size, *(len(normalize(form, text).encode("utf-8", "surrogatepass")) for form in ("NFC", "NFKC")))


def further_answers(job: Job) -> FurtherAnswers:
    """Return the further answer of a job that asks for a format or a call: one that lacks it may be asked for again."""
    return FurtherAnswers(1) if isinstance(job, GenerationJob) and _is_held(job) else no_further_answers(job)


def _is_held(job: GenerationJob) -> bool:
    return job.output is not None or bool(offered(job.tools, job.tool_choice))


GENERATE: Final = Stage(
    name="generate",
    order=40,
    takes=(GenerationJob,),
    step=generate,
    weight=Weight.MODEL,
    needs=("shown", "cancelled"),
    model=own_model,
    elsewhere=next_in_chain,
    group=sampling_group,
    prefix=shared_prefix,
    most_tokens=most_tokens,
    further_answers=further_answers,
)
