"""Prompts that cannot fit into their model's context, told at the door with the words that ingest would have."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from headrace_schemas import GenerationJob, HeadraceError
from headrace_schemas.errors import PromptTooLong
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.moderation.canary import MARK_CHARACTERS

_TURN_TOKENS: Final = 32  # that a template may add to a message


class Lengths:
    """Whether prompts fit, by their models' own tokenizers. Belongs to the event loop."""

    def __init__(self, models: CountingModels, executor: Executor) -> None:
        self._models = models
        self._executor = executor

    async def check(self, jobs: Sequence[Job]) -> None:
        """PromptTooLong for the first that does not fit. What fits however it is cut into tokens is not counted, and
        nor is what only its model's worker can count.
        """
        doubtful = [job for job in jobs if isinstance(job, GenerationJob) and self._may_be_too_long(job)]
        if doubtful:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._count, doubtful)

    def _may_be_too_long(self, job: GenerationJob) -> bool:
        context = self._models.context_length(job.model)
        turns = job.conversation
        most = sum(len(each.content.encode("utf-8", "surrogatepass")) + _TURN_TOKENS for each in turns)  # a byte each
        return context is not None and most + MARK_CHARACTERS >= context

    def _count(self, jobs: Sequence[GenerationJob]) -> None:
        for job in jobs:
            try:
                self._models.prompt_tokens(job.model, job.conversation, job.tenant)
            except PromptTooLong:
                raise
            except HeadraceError:  # of a template, say: ingest tells it with its own words
                continue
