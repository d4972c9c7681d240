"""Tenants' quotas at the door: what a job may use is reserved before it is sent."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

from headrace_schemas import GenerationJob, HeadraceError
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.ledger.accepted import AdmissionRequest
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.grouping import estimate_tokens
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.access.store.token_quotas import Quota, Want, beyond
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import Refusal, Why

_FRESH_SECONDS: Final = 2.0  # so soon a new quota is known; ingest knows of it at once
_LONGEST_WAIT: Final = 3_600.0
_MOST_KEPT: Final = 10_000


class QuotaReservations:
    """What tenants may still use. Belongs to the event loop."""

    def __init__(
        self,
        ledger: Ledger,
        models: CountingModels,
        pipeline: Pipeline,
        executor: Executor,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        quotas = ledger.of(Quotas)

        def find(tenants: list[str]) -> list[bool]:
            having = {quota.tenant for quota in quotas.find(frozenset(tenants))}
            return [tenant in having for tenant in tenants]

        def reserve(asked: list[Sequence[tuple[AdmissionRequest, Job]]]) -> list[Quota | BaseException | None]:
            """Each request by itself: its jobs are let in all, or none."""
            answers: list[Quota | BaseException | None] = []
            for jobs in asked:
                try:
                    wants = [
                        Want(
                            wish.job_id,
                            job.tenant,
                            pipeline.most_tokens(job, cost_of(job, models)),
                            group="request",
                            digest=wish.digest,
                        )
                        for wish, job in jobs
                    ]
                    answers.append(next(iter(quotas.reserve(wants).values()), None))
                except InvalidRecord as error:
                    answers.append(error)
            return answers

        def release(asked: list[Sequence[AdmissionRequest]]) -> list[None]:
            quotas.release([(wish.job_id, wish.digest) for wishes in asked for wish in wishes])
            return [None] * len(asked)

        self._find: Batcher[str, bool] = Batcher(find, executor)
        self._reserve: Batcher[Sequence[tuple[AdmissionRequest, Job]], Quota | None] = Batcher(reserve, executor)
        self._release: Batcher[Sequence[AdmissionRequest], None] = Batcher(release, executor)
        self._monotonic = monotonic
        self._wall = wall
        self._kept: dict[str, tuple[float, bool]] = {}

    async def reserve(self, jobs: Sequence[tuple[AdmissionRequest, Job]]) -> bool:
        """Reserve for these jobs of one tenant; whether there was need to. 429 where not enough is left."""
        if not jobs or not await self._has(jobs[0][1].tenant):
            return False
        quota = await self._reserve.ask(jobs)
        if quota is None:
            return True
        wait = _LONGEST_WAIT if quota.ends is None else min(_LONGEST_WAIT, quota.ends / 1000 - self._wall())
        raise Refusal(Why.QUOTA, beyond(quota), retry_after=max(1.0, wait), again=False)

    async def release(self, wishes: Sequence[AdmissionRequest]) -> None:
        """These were not sent after all."""
        await self._release.ask(wishes)

    async def _has(self, tenant: str) -> bool:
        now = self._monotonic()
        kept = self._kept.get(tenant)
        if kept is not None and now - kept[0] < _FRESH_SECONDS:
            return kept[1]
        found = await self._find.ask(tenant)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[tenant] = now, found
        return found


def cost_of(job: Job, models: CountingModels) -> int:
    """The tokens that one answer may use, as ingest counts them. InvalidRecord where the job's prompt cannot run."""
    if isinstance(job, GenerationJob):
        try:
            prompt = models.prompt_tokens(job.model, job.conversation, job.tenant)
        except HeadraceError as error:
            raise InvalidRecord(str(error)) from error
        if prompt is not None:
            return prompt + job.sampling.max_tokens
    return estimate_tokens(job)
