"""Searches of knowledge bases in a gateway: bounded in time and by tenant."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from headrace_schemas.attributes import Filter
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.core.admission import KnownEmbedder
from headrace_workers.core.cached_values import once
from headrace_workers.features.knowledge.parts import bases_of, embedder_of, remembering
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.limits import Slot, TenantSlots
from headrace_workers.http.services import GatewayParts

if TYPE_CHECKING:  # they import NumPy
    from headrace_workers.features.knowledge.passages import Hit
    from headrace_workers.features.knowledge.retrieval import FindsPassages

SEARCH_SECONDS: Final = 60.0  # that a search may take: the first one of a base reads it
_THREADS: Final = 8
SEARCHES_AT_A_TIME: Final = 4  # of one tenant: fewer than there are threads for searches


class PassageSearch:
    """Searches on the threads of an executor. Belongs to the event loop.

    `bases` returns the bases in this process's memory; Unavailable while no embedder is here.
    """

    def __init__(self, bases: "Callable[[], FindsPassages]", embedder: KnownEmbedder, threads: Executor) -> None:
        self.bases = bases
        self._embedder = embedder
        self._threads = threads
        self._slots = TenantSlots("searches", SEARCHES_AT_A_TIME)

    async def find(
        self, tenant: str, knowledge: str, queries: Sequence[str], most: int, where: Filter | None
    ) -> "list[list[Hit]]":
        """Return the passages of a base that fit each query best, of documents that a filter lets through.

        The first search of a base reads it. Raise 504 where that takes too long: it goes on for the next request. Raise
        503 where it cannot be done, and 429 where the tenant has too many searches under way.
        """
        self.check_embedder()
        slot = await self._slots.take(tenant)
        search = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self.bases().search(tenant, knowledge, queries, most, where=where)
        )
        # A search that nobody waits for any more still has its thread, and so keeps its tenant's place.
        search.add_done_callback(partial(_searched, slot))
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                return await asyncio.shield(search)
        except TimeoutError:
            raise Refusal(Why.TIMEOUT, f"no answer within {SEARCH_SECONDS:g} s: the base is being read") from None
        except ConfigurationError as error:  # the embedder cannot be loaded here
            raise Refusal(Why.INTERNAL, "the gateway has no embedder that it can load: its log says more") from error

    def check_embedder(self) -> None:
        """Raise 503 while no embedder is here: nothing would read the files or find passages."""
        alias = self._embedder.alias
        try:
            self._embedder.check(alias)
        except UnknownModel as error:
            words = (
                f"vector stores need the embedder {alias}, which is not here: run `headrace models pull {alias}` "
                "where the gateway and the recall workers run"
            )
            raise Refusal(Why.NO_EMBEDDER, words, should_retry=False) from error


def _searched(slot: Slot, search: "asyncio.Future[object]") -> None:
    slot.release()
    search.exception()  # looked at, so that asyncio does not log what a client that left would have been told


def services(gateway: GatewayParts) -> Mapping[type, object]:
    """Return what searches of a gateway's routes work with, by class. Bases are read when they are first asked for."""
    embedder = once(lambda: remembering(embedder_of(gateway.settings)))
    bases = once(
        lambda: bases_of(
            gateway.ledger, gateway.progress, gateway.name, embedder, lambda: gateway.followers, gateway.at_end
        )
    )
    return {PassageSearch: PassageSearch(bases, gateway.embedder, ThreadPoolExecutor(_THREADS, "search"))}
