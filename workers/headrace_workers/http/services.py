"""What routes work with: built once a process, in `wiring/gateway.py`, and started with the application."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec, TypeVar

from fastapi import Depends, Request

from headrace_schemas.attributes import Filter
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.core.ledger.cancel import Cancellation, CancelOutcome
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.access.keyring import Keyring
from headrace_workers.features.batches.files.files import Files
from headrace_workers.features.batches.files.uploads import Uploads
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.knowledge.embedders.served import ServedEmbedder
from headrace_workers.http.admission import Admission
from headrace_workers.http.batcher import PATIENCE, Batcher
from headrace_workers.http.errors import LedgerAway, Refusal, Why, unsaid
from headrace_workers.http.metrics import Metrics
from headrace_workers.http.rates import Rates
from headrace_workers.http.sink import Sink
from headrace_workers.http.store_work import StoreWork
from headrace_workers.http.tenant_slots import TenantSlots
from headrace_workers.http.waiter import Waiter
from headrace_workers.runtime.health.writes import Writes
from headrace_workers.runtime.settings import Settings

if TYPE_CHECKING:  # they import NumPy
    from headrace_workers.features.knowledge.passages import Hit
    from headrace_workers.features.knowledge.retrieval import FindsPassages

P = ParamSpec("P")
T = TypeVar("T")

SEARCH_SECONDS: Final = 60.0  # that a search may take: the first one of a base reads it
SEARCHES_AT_A_TIME: Final = 4  # of one tenant: fewer than there are threads for searches
STREAMS_AT_A_TIME: Final = 100  # of one tenant, in one gateway
_LET_GO_SECONDS: Final = 60.0
_PROBE_SECONDS: Final = 10.0  # for a write that is under way at the end
_LET_GO_AT_ONCE: Final = 100
LONGEST_WAIT: Final = 60.0  # seconds that a request may wait for the end of a job by `wait=`


@dataclass(kw_only=True)
class Services:
    """All of them. `hear` begins to listen to the bell, and returns what ends that. `at_end` is closed after the last
    request: what was begun for some of them ends with it.
    """

    settings: Settings
    ledger: Ledger
    registry: Registry
    pipeline: Pipeline
    executor: Executor  # for whatever waits for the ledger
    search_threads: Executor  # for searches, which may take a minute and must not hold up look-ups of keys
    store: StoreWork  # for whatever waits for the file store, which may be slow
    sink: Sink
    waiter: Waiter
    door: Admission
    embedder: ServedEmbedder
    keyring: Keyring
    rates: Rates
    bases: "Callable[[], FindsPassages]"  # in this process's memory; Unavailable while no embedder is here
    files: Files
    uploads: Uploads
    metrics: Metrics
    writes: Writes
    hear: Callable[[Callable[[], object]], Callable[[], object]]
    ring: Callable[[], object]
    at_end: ExitStack
    searches: TenantSlots = field(default_factory=lambda: TenantSlots("searches", SEARCHES_AT_A_TIME))
    streams: TenantSlots = field(default_factory=lambda: TenantSlots("event streams", STREAMS_AT_A_TIME))
    _standings: Batcher[str, Standing | None] = field(init=False)
    _cancel: Batcher[Cancellation, CancelOutcome] = field(init=False)
    _let_go: Batcher[Cancellation, CancelOutcome] = field(init=False)

    def __post_init__(self) -> None:
        self._standings = Batcher(self._look_up, self.executor)
        self._cancel = Batcher(self._cancel_all, self.executor)
        self._let_go = Batcher(self._cancel_all, self.executor, most=_LET_GO_AT_ONCE, patience=_LET_GO_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the application is served."""
        self.waiter.start()
        await self.sink.start()
        self.writes.start()
        deaf = self.hear(self.waiter.rang)
        try:
            yield
        finally:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, deaf)
            await self.waiter.stop()
            await self.sink.stop()
            await self.rates.close()
            await loop.run_in_executor(None, self.at_end.close)
            await loop.run_in_executor(None, self.writes.stop, _PROBE_SECONDS)
            await loop.run_in_executor(None, self.ledger.close)

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call of the ledger's, on a thread: 503 where there is no answer in time. It may go on all the same."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                return await loop.run_in_executor(self.executor, lambda: call(*args, **kwargs))
        except TimeoutError:
            raise LedgerAway(f"no answer within {PATIENCE:g} s") from None
        except Unavailable as error:
            raise LedgerAway(unsaid(error)) from error

    async def known(self, look_up: Callable[..., T | None], *names: str) -> T | None:
        """What a look-up of the ledger's finds under these names. Nothing is called by one with a NUL, and no database
        would take that.
        """
        return None if any("\x00" in name for name in names) else await self.ask(look_up, *names)

    async def find(
        self, tenant: str, knowledge: str, queries: Sequence[str], most: int, where: Filter | None
    ) -> "list[list[Hit]]":
        """The passages of a base that fit each query best, of documents that a filter lets through. The first search of
        a base reads it: 504 where that takes too long, and it goes on for who asks again; 503 where it cannot be done.
        """
        self.check_embedder()
        self.searches.take(tenant)
        loop = asyncio.get_running_loop()
        search = loop.run_in_executor(
            self.search_threads, lambda: self.bases().search(tenant, knowledge, queries, most, where=where)
        )
        # A search that nobody waits for any more still has its thread, and so keeps its tenant's place.
        search.add_done_callback(partial(self._searched, tenant))
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                return await asyncio.shield(search)
        except TimeoutError:
            raise Refusal(Why.TIMEOUT, f"no answer within {SEARCH_SECONDS:g} s: the base is being read") from None
        except ConfigurationError as error:  # the embedder cannot be loaded here
            raise Refusal(Why.INTERNAL, "the gateway has no embedder that it can load: its log says more") from error

    def _searched(self, tenant: str, search: "asyncio.Future[object]") -> None:
        self.searches.give_back(tenant)
        search.exception()  # looked at, so that asyncio does not log what a client that left would have been told

    def check_embedder(self) -> None:
        """Refuse what needs an embedder while none is here: what would read the files or find passages would wait for
        ever.
        """
        try:
            self.embedder.check(self.embedder.alias)
        except UnknownModel as error:
            words = (
                f"vector stores need the embedder {self.embedder.alias}, which is not here: run "
                f"`headrace models pull {self.embedder.alias}` where the gateway and the recall workers run"
            )
            raise Refusal(Why.NO_EMBEDDER, words, again=False) from error

    async def standing(self, job_id: str, tenant: str) -> Standing:
        """How a job of this tenant stands; 404 where there is none. Who asks at the same moment shares one look."""
        found = await self._standings.ask(job_id)
        if found is None or found.tenant != tenant:
            raise Refusal(Why.NOT_FOUND, "this tenant has no job of this id")
        return found

    async def cancel(self, job_ids: Sequence[str], tenant: str, reason: str) -> None:
        """Cancel these jobs of a tenant; those that have ended, or are another's, are left as they are."""
        wishes = [self._cancel.ask(Cancellation(job_id, tenant, reason)) for job_id in job_ids]
        await asyncio.gather(*wishes)

    async def let_go(self, job_ids: Sequence[str], tenant: str, reason: str) -> None:
        """Cancel jobs of whose end nobody is there to hear: of a thousand clients, say, that hung up together. Nobody
        waits for this either, and so it may take its time.
        """
        wishes = [self._let_go.ask(Cancellation(job_id, tenant, reason)) for job_id in job_ids]
        await asyncio.gather(*wishes)

    def _look_up(self, job_ids: list[str]) -> list[Standing | None]:
        found = self.ledger.standings(list(dict.fromkeys(job_ids)))
        return [found.get(job_id) for job_id in job_ids]

    def _cancel_all(self, wishes: list[Cancellation]) -> list[CancelOutcome]:
        outcomes = self.ledger.cancel_all(wishes)
        self.ring()
        return outcomes


async def _services(request: Request) -> Any:  # as a plain function it would be called on a thread
    return request.app.state.services


Wired = Annotated[Services, Depends(_services)]
