"""Admission of prompts: a prompt must fit into its model's context, its model must know what it asks for, and an answer
can have the format that it asks for.
"""

from typing import Final

from headrace_schemas import GenerationJob, HeadraceError, Sampling
from headrace_schemas.errors import InvalidRecord, PromptTooLong
from headrace_workers.core.admission import AdmissionCheck, KnownModels
from headrace_workers.core.pipeline.task import Job
from headrace_workers.models.structured.schemas import check_format, check_tools_schemas, is_known
from headrace_workers.models.structured.tools import (
    check_choice,
    check_size,
    with_format,
)
from headrace_workers.models.token_bounds import TURN_TOKENS

_USUAL: Final = {name: getattr(Sampling(), name) for name in Sampling.model_fields if name != "max_tokens"}


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
            too_long = PromptTooLong(
                f"the format that stands in the prompt makes it too long: {error}; or shorten the schema, or set "
                "output.in_prompt to false"
            )
            too_long.param = "output"
        else:
            too_long = PromptTooLong(
                f"the tools that the prompt describes make it too long: {error}; or offer fewer tools, or describe "
                "them in fewer words"
            )
            too_long.param = "tools"
        return too_long
