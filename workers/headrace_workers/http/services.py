"""Services that routes work with. `wiring/build_gateway.py` builds them once a process; the application starts them."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, ParamSpec, TypeVar

from fastapi import Depends, Request

from headrace_schemas.errors import Unavailable
from headrace_workers.core.admission import AdmissionRules, KnownEmbedder
from headrace_workers.core.ledger.cancellation import Cancellation, CancelOutcome
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.metrics import LedgerMetrics
from headrace_workers.core.progress import Progress
from headrace_workers.http.admission import Admission
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.caller import FindsCallers
from headrace_workers.http.errors import LedgerOutage, Refusal, Why, unsaid
from headrace_workers.http.limits import RateLimiter, TenantSlots
from headrace_workers.http.metrics import LedgerMetricsReader, Metrics
from headrace_workers.http.sink import Sink
from headrace_workers.http.timeouts import Timeouts, is_done_within
from headrace_workers.http.waiter import Waiter
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Broadcast

P = ParamSpec("P")
T = TypeVar("T")

STREAMS_AT_A_TIME: Final = 100  # of one tenant, in one gateway
_ABANDONED_SECONDS: Final = 60.0
_PROBE_SECONDS: Final = 10.0  # for a write that is under way at the end
_ABANDONED_AT_ONCE: Final = 100
_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
LONGEST_WAIT: Final = 60.0  # seconds that a request may wait for the end of a job by `wait=`


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """Parts of a gateway for its features. `followers` are woken when answers or documents have changed, and `at_end`
    is closed after the last request.
    """

    name: str
    settings: Settings
    ledger: Ledger
    progress: Progress
    embedder: KnownEmbedder
    followers: Broadcast
    at_end: ExitStack


@dataclass(kw_only=True)
class Services:
    """The services of one gateway. `hear` begins to listen to the notifier, and returns a function that stops it.
    `at_end` is closed after the last request, and ends the work begun for requests. `parts` are the features' parts, by
    class.
    """

    settings: Settings
    ledger: Ledger
    executor: Executor  # of calls of the ledger
    sink: Sink
    waiter: Waiter
    admission: Admission
    rules: AdmissionRules
    keyring: FindsCallers
    rates: RateLimiter
    metrics: Metrics
    writes: Writes
    hear: Callable[[Callable[[], object]], Callable[[], object]]
    ring: Callable[[], object]
    at_end: ExitStack
    parts: Mapping[type, object]
    timeouts: Timeouts
    ledger_metrics: LedgerMetricsReader = field(init=False)
    streams: TenantSlots = field(default_factory=lambda: TenantSlots("event streams", STREAMS_AT_A_TIME))
    _standings: Batcher[str, Standing | None] = field(init=False)
    _cancel: Batcher[Cancellation, CancelOutcome] = field(init=False)
    _cancel_abandoned: Batcher[Cancellation, CancelOutcome] = field(init=False)

    def __post_init__(self) -> None:
        self.ledger_metrics = LedgerMetricsReader(lambda: self.ask(self.ledger.of(LedgerMetrics).last))
        self._standings = Batcher(self._look_up, self.executor, patience=self.timeouts.ledger)
        self._cancel = Batcher(self._cancel_all, self.executor, patience=self.timeouts.ledger)
        self._cancel_abandoned = Batcher(
            self._cancel_all, self.executor, most=_ABANDONED_AT_ONCE, patience=_ABANDONED_SECONDS
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the services while the application is served."""
        self.waiter.start()
        await self.sink.start()
        self.writes.start()
        stop_hearing = self.hear(self.waiter.rang)
        try:
            yield
        finally:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, stop_hearing)
            await self.waiter.stop()
            await self.sink.stop()
            await self.rates.close()
            await loop.run_in_executor(None, self.at_end.close)
            await loop.run_in_executor(None, self.writes.stop, _PROBE_SECONDS)
            await loop.run_in_executor(None, self.ledger.close)

    def of(self, part: type[T]) -> T:
        """Return the part of this class, such as `services.of(Files)`."""
        found = self.parts[part]
        assert isinstance(found, part)  # noqa: S101 - for the type checker
        return found

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the ledger on a thread. Raise 503 if it does not answer in time; the call may go on."""
        return await ask_on(self.executor, self.timeouts.ledger, call, *args, **kwargs)

    async def known(self, look_up: Callable[..., T | None], *names: str) -> T | None:
        """Return what a look-up of the ledger finds under these names. No name has a NUL, and no database takes one."""
        return None if any("\x00" in name for name in names) else await self.ask(look_up, *names)

    async def standing(self, job_id: str, tenant: str) -> Standing:
        """Return the state of a job of this tenant. Raise 404 if there is none. Simultaneous requests share one
        look-up.
        """
        found = await self._standings.ask(job_id) if _JOB_ID.fullmatch(job_id) else None
        if found is None or found.tenant != tenant:
            raise no_job()
        return found

    async def cancel(self, job_ids: Sequence[str], tenant: str, reason: str) -> None:
        """Cancel these jobs of a tenant, except for jobs that have ended or belong to another tenant."""
        await asyncio.gather(*(self._cancel.ask(Cancellation(job_id, tenant, reason)) for job_id in job_ids))

    async def cancel_abandoned(self, job_ids: Sequence[str], tenant: str, reason: str) -> None:
        """Cancel jobs whose clients have hung up, perhaps a thousand of them together. Nobody waits for this, and so it
        may take its time.
        """
        await asyncio.gather(*(self._cancel_abandoned.ask(Cancellation(job_id, tenant, reason)) for job_id in job_ids))

    def _look_up(self, job_ids: list[str]) -> list[Standing | None]:
        standings = self.ledger.standings(list(dict.fromkeys(job_ids)))
        return [standings.get(job_id) for job_id in job_ids]

    def _cancel_all(self, cancellations: list[Cancellation]) -> list[CancelOutcome]:
        outcomes = self.ledger.cancel_all(cancellations)
        self.ring()
        return outcomes


async def ask_on(executor: Executor, patience: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the ledger on a thread of this executor. Raise 503 if it does not answer within so many seconds."""
    answer = asyncio.get_running_loop().run_in_executor(executor, lambda: call(*args, **kwargs))
    try:
        if not await is_done_within(patience, answer):
            raise LedgerOutage(f"the ledger did not answer within {patience:g} s")
        return answer.result()
    except Unavailable as error:
        raise LedgerOutage(unsaid(error, "the ledger")) from error
    finally:
        answer.cancel()  # a call that has not begun does not begin for nobody


def no_job() -> Refusal:
    """Return the refusal of a request for a job that its tenant does not have."""
    return Refusal(Why.NOT_FOUND, "this tenant has no job of this id")


async def _services(request: Request) -> Any:  # as a plain function it would be called on a thread
    return request.app.state.services


Wired = Annotated[Services, Depends(_services)]
