"""Tenants' quotas in a gateway: a job's largest use is reserved before the job is sent."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

from headrace_schemas import HeadraceError
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.ledger.accepted import AdmissionRequest
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.store.quotas import Beyond, Quotas, WantedQuota
from headrace_workers.http.admission import Want
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import Refusal, Why

_FRESH_SECONDS: Final = 2.0  # so soon a new quota is known; ingest knows of it at once
_LONGEST_WAIT: Final = 3_600.0
_MOST_KEPT: Final = 10_000


class QuotaReservations:
    """The quota reservations of this gateway. Belongs to the event loop."""

    def __init__(
        self,
        ledger: Ledger,
        rules: AdmissionRules,
        executor: Executor,
        *,
        patience: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        quotas = ledger.of(Quotas)

        def find(tenants: list[str]) -> list[bool]:
            having = {quota.tenant for quota in quotas.find(frozenset(tenants))}
            return [tenant in having for tenant in tenants]

        def priced(want: Want) -> WantedQuota:
            job = want.resolved.job
            once = rules.examine(job) if want.tokens is None else want.tokens
            job_id = want.request.job_id
            call = rules.first_step(job_id, want.resolved, once, len(want.request.value)).call
            return WantedQuota(
                job_id,
                job.tenant,
                rules.pipeline.most_tokens(job, once),
                (call.most or 0) if call else 0,
                want.resolved.unpriced,
                want.key_id,
                group="request",
                digest=want.request.digest,
            )

        def reserve(calls: list[Sequence[Want]]) -> list[Beyond | BaseException | None]:
            """Reserve for each request by itself: its jobs are admitted all, or none."""
            answers: list[Beyond | BaseException | None] = []
            for wants in calls:
                try:
                    reserved = quotas.reserve([priced(want) for want in wants])
                except HeadraceError as error:
                    answers.append(error)
                    continue
                answers.append(next(iter(reserved.values()), None))
            return answers

        def release(calls: list[Sequence[AdmissionRequest]]) -> list[None]:
            quotas.release([(request.job_id, request.digest) for requests in calls for request in requests])
            return [None] * len(calls)

        self._find: Batcher[str, bool] = Batcher(find, executor, patience=patience)
        self._reserve: Batcher[Sequence[Want], Beyond | None] = Batcher(reserve, executor, patience=patience)
        self._release: Batcher[Sequence[AdmissionRequest], None] = Batcher(release, executor, patience=patience)
        self._monotonic = monotonic
        self._wall = wall
        self._kept: dict[str, tuple[float, bool]] = {}

    async def reserve(self, wants: Sequence[Want]) -> bool:
        """Reserve what these jobs of one tenant may use; return whether that was needed. 429 where too little is left.

        Raise the error of a job whose tokens cannot be counted.
        """
        if not wants or not await self._has(wants[0].resolved.job.tenant):
            return False
        beyond = await self._reserve.ask(wants)
        if beyond is None:
            return True
        ends = beyond.quota.ends
        wait = _LONGEST_WAIT if ends is None else min(_LONGEST_WAIT, ends / 1000 - self._wall())
        raise Refusal(Why.QUOTA, beyond.reason, retry_after=max(1.0, wait), should_retry=False)

    async def release(self, requests: Sequence[AdmissionRequest]) -> None:
        """Give back what was reserved for these jobs, which were not sent."""
        await self._release.ask(requests)

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
