"""OpenAI's vector stores: knowledge bases, whose files come from `/v1/files`.

A store's id is its base's name, so that a job may rest on it (`knowledge`), and every base of the tenant is a store. A
recall worker reads the files; searches are this process's own.
"""

import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Request

from headrace_schemas.attributes import AttributeMap
from headrace_workers.features.files.feature import FILES_READ
from headrace_workers.features.files.store.stored import StoredFiles
from headrace_workers.features.knowledge.api.vector_store_shapes import (
    ERRORS,
    NewStore,
    SearchHit,
    SearchPage,
    StoreChange,
    StoreDeleted,
    StoreList,
    StoreSearch,
    VectorStoreShape,
    body_of,
    takes,
)
from headrace_workers.features.knowledge.feature import KNOWLEDGE_READ, KNOWLEDGE_WRITE
from headrace_workers.features.knowledge.passage_search import PassageSearch
from headrace_workers.features.knowledge.store.bases import KnowledgeBases
from headrace_workers.features.knowledge.store.store_files import Incoming
from headrace_workers.features.knowledge.store.stores import Store
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.http.authenticated_route import Guarded
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.paging import PAGE, After, Before, Limit, Order, only_onwards, onwards
from headrace_workers.http.services import Services, Wired

if TYPE_CHECKING:  # it imports NumPy
    from collections.abc import Sequence

    from headrace_workers.features.knowledge.passages import Hit

router = APIRouter(tags=["vector stores"], route_class=Guarded)

_REMOVED_AT_ONCE: Final = 100

Reads = Annotated[Caller, needs(KNOWLEDGE_READ)]
Writes = Annotated[Caller, needs(KNOWLEDGE_WRITE)]


@router.post("/v1/vector_stores", responses=ERRORS, openapi_extra=takes(NewStore))
async def create(request: Request, caller: Writes, services: Wired) -> VectorStoreShape:
    """Create a store, and add files if you name some."""
    body = body_of(NewStore, await json_object(request))
    files = [await incoming(services, caller, file_id, {}) for file_id in dict.fromkeys(body.file_ids)]
    made = await services.ask(
        services.ledger.of(VectorStores).create,
        caller.tenant,
        f"vs_{uuid.uuid4().hex}",
        name=body.name or "",
        description=body.description,
        metadata=body.metadata or {},
        expire_days=body.expires_after.days if body.expires_after else None,
        files=files,
    )
    return VectorStoreShape.of(made)


@router.get("/v1/vector_stores", responses=ERRORS)
async def list_stores(
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
) -> StoreList:
    """Return the tenant's stores: all its knowledge bases."""
    only_onwards(before)
    stores = await services.ask(services.ledger.of(VectorStores).stores, caller.tenant)
    found = onwards(stores, order, after, "this tenant has no vector store of this id")
    return StoreList.of(found, limit, VectorStoreShape.of)


@router.get("/v1/vector_stores/{vector_store_id}", responses=ERRORS)
async def retrieve(vector_store_id: str, caller: Reads, services: Wired) -> VectorStoreShape:
    """Return a store."""
    return VectorStoreShape.of(await store_of(services, caller, vector_store_id))


@router.post("/v1/vector_stores/{vector_store_id}", responses=ERRORS, openapi_extra=takes(StoreChange))
async def change(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> VectorStoreShape:
    """Change the name, the metadata or the expiry of a store."""
    await store_of(services, caller, vector_store_id)
    body = body_of(StoreChange, await json_object(request))
    values: dict[str, Any] = {}
    if body.name is not None:
        values["name"] = body.name
    if body.metadata is not None:
        values["metadata"] = body.metadata
    if "expires_after" in body.model_fields_set:
        values["expire_days"] = body.expires_after.days if body.expires_after else None
    changed = await services.ask(services.ledger.of(VectorStores).change, caller.tenant, vector_store_id, values)
    if changed is None:
        raise _no_store()
    return VectorStoreShape.of(changed)


@router.delete("/v1/vector_stores/{vector_store_id}", responses=ERRORS)
async def delete(vector_store_id: str, caller: Writes, services: Wired) -> StoreDeleted:
    """Delete a store with its documents. The files are kept."""
    await store_of(services, caller, vector_store_id)
    # Cancel pending files first; then remove the documents in small transactions, since a long one would hold up the
    # followers of changes.
    await services.ask(services.ledger.of(VectorStores).remove, caller.tenant, vector_store_id)
    bases = services.ledger.of(KnowledgeBases)
    while found := await services.ask(bases.documents, caller.tenant, vector_store_id, "", _REMOVED_AT_ONCE):
        await services.ask(bases.remove, [row.id for row in found])
    return StoreDeleted(id=vector_store_id)


@router.post("/v1/vector_stores/{vector_store_id}/search", responses=ERRORS, openapi_extra=takes(StoreSearch))
async def search(vector_store_id: str, request: Request, caller: Reads, services: Wired) -> SearchPage:
    """Return the passages that match a query best, from files that pass the filter."""
    store = await store_of(services, caller, vector_store_id)
    body = body_of(StoreSearch, await json_object(request))
    if store.expired:
        raise Refusal(Why.INVALID, "this vector store has expired: its documents are gone", param="vector_store_id")
    hits = await services.of(PassageSearch).find(
        caller.tenant, vector_store_id, body.query, body.max_num_results, body.filters
    )
    if store.expire_days is not None:
        await services.ask(services.ledger.of(VectorStores).used, caller.tenant, vector_store_id)
    threshold = (body.ranking_options.score_threshold if body.ranking_options else None) or 0.0
    best = [SearchHit.of(hit) for hit in _best_of(hits, body.max_num_results) if hit.score >= threshold]
    return SearchPage(search_query=list(body.query), data=best)


async def store_of(services: Services, caller: Caller, vector_store_id: str) -> Store:
    """Return a store of the caller's. Raise 403 if the caller may read none, 404 if there is none of this id."""
    caller.need(KNOWLEDGE_READ)
    found = await services.known(services.ledger.of(VectorStores).store, caller.tenant, vector_store_id)
    if found is None:
        raise _no_store()
    return found


def refuse_expired(store: Store) -> None:
    """Raise 400 if a store has expired: it takes no more files."""
    if store.expired:
        raise Refusal(Why.INVALID, "this vector store has expired: make another", param="vector_store_id")


async def incoming(services: Services, caller: Caller, file_id: str, attributes: AttributeMap) -> Incoming:
    """Return a file of the caller's that is to go into a store: 403 if the caller may not read files, 404 if there is
    none of this id, 503 without an embedder.
    """
    caller.need(FILES_READ, "file_id")
    services.of(PassageSearch).check_embedder()
    found = await services.ask(services.ledger.of(StoredFiles).file, file_id, caller.tenant)
    if found is None:
        raise Refusal(Why.NOT_FOUND, f"this tenant has no file {file_id}", param="file_id")
    return Incoming(file_id, found.name, attributes)


def _no_store() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no vector store of this id", param="vector_store_id")


def _best_of(found: "Sequence[Sequence[Hit]]", most: int) -> "list[Hit]":
    """Return the best passages of several queries, each passage once."""
    best: dict[str, Hit] = {}
    for hit in (hit for hits in found for hit in hits):
        if hit.chunk.id not in best or best[hit.chunk.id].score < hit.score:
            best[hit.chunk.id] = hit
    return sorted(best.values(), key=lambda hit: -hit.score)[:most]
