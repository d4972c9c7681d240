"""Admission of prompts: a prompt must fit into its model's context, its model must know what it asks for, and an answer
can have the format that it asks for.
"""

from collections.abc import Sequence
from typing import Final
from unicodedata import normalize

from headrace_schemas import GenerationJob, HeadraceError, Message, Sampling
from headrace_schemas.errors import InvalidRecord, PromptTooLong
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.tool import Tool
from headrace_workers.core.admission import AdmissionCheck, KnownModels
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.generation.structured.schemas import check_format, check_tools_schemas, is_known
from headrace_workers.features.generation.structured.tools import (
    as_json,
    check_choice,
    check_size,
    described,
    with_format,
)

_USUAL: Final = {name: getattr(Sampling(), name) for name in Sampling.model_fields if name != "max_tokens"}
TURN_TOKENS: Final = 32  # that a template may add to a message

_OWN_TURNS: Final = 4  # of the template or the provider: a system prompt, the date; and of the marks of features
_ADDED_TURNS: Final = 4  # of features, from what a job carries
_ABOUT_TOOLS: Final = 640  # tokens of words about calls: Anthropic's are up to 530


class PromptCheck(AdmissionCheck):
    """The check of prompts, by their models' own tokenizers, and of their sampling."""

    def __init__(self, models: KnownModels) -> None:
        self._models = models

    def check(self, job: Job) -> None:
        """Raise InvalidRecord, which names the parameter, where a model that may answer lacks one that the job sets.

        Raise it also where the job asks for a format that was refused before.
        """
        if not isinstance(job, GenerationJob):
            return
        if job.output is not None and is_known(job.output):
            check_format(job.output, job.tenant)
        check_size(job.tools)
        asked = [name for name, usual in _USUAL.items() if getattr(job.sampling, name) != usual]
        for alias in job.chain if asked else ():
            lacks = self._models.lacks(alias)
            if lacking := next((name for name in asked if name in lacks), None):
                raise InvalidRecord(
                    f"the model {alias} has no parameter {lacking}: leave it out, or name another model",
                    param=f"sampling.{lacking}",
                    code="unsupported_parameter",
                )

    def is_doubtful(self, job: Job) -> bool:
        """Return False where the job's format is known, and the prompt fits however it is cut into tokens, or only its
        model's worker can count it. The schemas of tools take time, and templates write calls longer than they came.
        """
        if not isinstance(job, GenerationJob):
            return False
        if job.tools or any(message.tool_calls for message in job.messages):
            return True
        if job.output is not None and not is_known(job.output):
            return True
        context, turns = self._models.context_length(job.first_model), with_format(job.conversation, job)
        most = sum(
            len(f"{turn.content}{turn.name or ''}".encode("utf-8", "surrogatepass")) + TURN_TOKENS for turn in turns
        )  # a byte each
        return context is not None and most + self._models.longest_mark >= context

    def examine(self, job: Job) -> int | None:
        """Return the tokens of the prompt and the longest answer, None where only a guess can be had.

        Raise PromptTooLong, or InvalidRecord where the prompt cannot be made, no answer can have the job's format, or
        no model can be held to the tools. Raise FormatsTooSlow and Unavailable as `check_format` does.
        """
        if not isinstance(job, GenerationJob):
            return None
        if job.output is not None:
            check_format(job.output, job.tenant)
        if job.tools:
            check_tools_schemas(job.tools, job.tenant, job.output if job.offer.beside_format else None)
        check_choice(job, self._models.knows_tools)
        try:
            prompt = self._models.prompt_tokens(
                job.first_model, with_format(job.conversation, job), job.tenant, job.offer
            )
        except PromptTooLong as error:
            raise self._too_long(error, job) from error
        except HeadraceError as error:  # permanent to a worker; here another job may be right
            raise InvalidRecord(str(error)) from error
        return None if prompt is None else prompt + job.sampling.max_tokens

    def _too_long(self, error: PromptTooLong, job: GenerationJob) -> PromptTooLong:
        """Return the error of a prompt that is too long; it says so if the format or the tools in it make it so."""
        if job.output is None and not job.tools:
            return error
        try:
            self._models.prompt_tokens(job.first_model, job.conversation, job.tenant)
        except HeadraceError:
            return error
        if job.output is not None:
            found = PromptTooLong(
                f"the format that stands in the prompt makes it too long: {error}; or shorten the schema, or set "
                "output.in_prompt to false"
            )
            found.param = "output"
        else:
            found = PromptTooLong(
                f"the tools that the prompt describes make it too long: {error}; or offer fewer tools, or describe "
                "them in fewer words"
            )
            found.param = "tools"
        return found


def tokens_at_most(
    turns: Sequence[Message], output: OutputFormat | None, tools: Sequence[Tool], max_tokens: int, *, carried: int = 0
) -> int:
    """Return the most tokens of a call with these turns, which asks for this format, offers these tools, and may write
    `max_tokens`: no text has more tokens than bytes, once it is normalized as the tokenizer may do.

    A format may be read twice, in the prompt and beside it. The bytes that a job `carried` here count whole.
    """
    around = TURN_TOKENS * (len(turns) + _OWN_TURNS + (_ADDED_TURNS if carried else 0))
    if output is not None:
        around += _tokens_of_text(output.model_dump_json())
    if tools:
        around += _ABOUT_TOOLS + sum(_tokens_of_text(as_json(described(tool))) for tool in tools)
    return sum(map(_tokens_of_turn, turns)) + carried + around + max_tokens


def _tokens_of_turn(turn: Message) -> int:
    """Return the most tokens of a turn's text and calls. A template may write the arguments of a call with more blanks
    than they came with: at most as many as characters.
    """
    calls = sum(
        2 * _tokens_of_text(f"{tool_call.name}{tool_call.arguments}") + TURN_TOKENS for tool_call in turn.tool_calls
    )
    return _tokens_of_text(turn.content) + _tokens_of_text(turn.name or "") + len(turn.tool_call_id or "") + calls


def _tokens_of_text(text: str) -> int:
    """Return the most tokens of a text. Some tokenizers normalize it first, to up to three (NFC) or eleven (NFKC) times
    as many bytes.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii():
        return size
    return max(size, *(len(normalize(form, text).encode("utf-8", "surrogatepass")) for form in ("NFC", "NFKC")))
