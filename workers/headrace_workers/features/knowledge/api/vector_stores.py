"""OpenAI's vector stores: knowledge bases, whose files come from `/v1/files`.

A store's id is its base's name, so that a job may rest on it (`knowledge`), and every base of the tenant is a store. A
recall worker reads the files; searches are this process's own.
"""

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from headrace_schemas.attributes import AttributeMap
from headrace_workers.core.sql.paging import Part
from headrace_workers.features.files.feature import FILES_READ
from headrace_workers.features.knowledge.api.vector_store_shapes import (
    ERRORS,
    POLL_AGAIN,
    Content,
    ContentPage,
    FileBatchShape,
    NewFileBatch,
    NewStore,
    NewStoreFile,
    SearchHit,
    SearchPage,
    StoreChange,
    StoreDeleted,
    StoreFileChange,
    StoreFileDeleted,
    StoreFileList,
    StoreFileShape,
    StoreList,
    StoreSearch,
    VectorStoreShape,
    body_of,
    takes,
)
from headrace_workers.features.knowledge.feature import KNOWLEDGE_READ, KNOWLEDGE_WRITE
from headrace_workers.features.knowledge.passage_search import PassageSearch
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.knowledge.store.store_files import Incoming, Store, StoreFile
from headrace_workers.features.knowledge.store.vector_stores import FileBatch, FileBatches, VectorStores
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.paging import PAGE, After, Before, Limit, Order, only_onwards, onwards
from headrace_workers.http.routes import Guarded
from headrace_workers.http.services import Services, Wired

if TYPE_CHECKING:  # it imports NumPy
    from collections.abc import Sequence

    from headrace_workers.features.knowledge.passages import Hit

router = APIRouter(tags=["vector stores"], route_class=Guarded)

_REMOVED_AT_ONCE: Final = 100

Reads = Annotated[Caller, needs(KNOWLEDGE_READ)]
Writes = Annotated[Caller, needs(KNOWLEDGE_WRITE)]


@router.post("/v1/vector_stores", responses=ERRORS, openapi_extra=takes(NewStore))
async def create_store(request: Request, caller: Writes, services: Wired) -> VectorStoreShape:
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
async def retrieve_store(vector_store_id: str, caller: Reads, services: Wired) -> VectorStoreShape:
    """Return a store."""
    return VectorStoreShape.of(await store_of(services, caller, vector_store_id))


@router.post("/v1/vector_stores/{vector_store_id}", responses=ERRORS, openapi_extra=takes(StoreChange))
async def change_store(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> VectorStoreShape:
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
async def delete_store(vector_store_id: str, caller: Writes, services: Wired) -> StoreDeleted:
    """Delete a store with its documents. The files are kept."""
    await store_of(services, caller, vector_store_id)
    # Cancel pending files first; then remove the documents in small transactions, since a long one would hold up the
    # followers of changes.
    await services.ask(services.ledger.of(VectorStores).remove, caller.tenant, vector_store_id)
    bases = services.ledger.of(KnowledgeBases)
    while rows := await services.ask(bases.documents, caller.tenant, vector_store_id, "", _REMOVED_AT_ONCE):
        await services.ask(bases.remove, [row.id for row in rows])
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
    store = await services.known(services.ledger.of(VectorStores).store, caller.tenant, vector_store_id)
    if store is None:
        raise _no_store()
    return store


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
    row = await services.ask(services.ledger.of(StoredFiles).file, file_id, caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, f"this tenant has no file {file_id}", param="file_id")
    return Incoming(file_id, row.name, attributes)


def _no_store() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no vector store of this id", param="vector_store_id")


def _best_of(found: "Sequence[Sequence[Hit]]", most: int) -> "list[Hit]":
    """Return the best passages of several queries, each passage once."""
    best: dict[str, Hit] = {}
    for hit in (hit for hits in found for hit in hits):
        if hit.chunk.id not in best or best[hit.chunk.id].score < hit.score:
            best[hit.chunk.id] = hit
    return sorted(best.values(), key=lambda hit: -hit.score)[:most]


_FILES = "/v1/vector_stores/{vector_store_id}/files"
_FILE = _FILES + "/{store_file_id}"


@router.post(_FILES, responses=ERRORS, openapi_extra=takes(NewStoreFile))
async def add_file(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> StoreFileShape:
    """Add a file to a store. It is in progress until a recall worker has read it."""
    store = await store_of(services, caller, vector_store_id)
    body = body_of(NewStoreFile, await json_object(request))
    refuse_expired(store)
    file = await incoming(services, caller, body.file_id, body.attributes or {})
    await services.ask(services.ledger.of(VectorStores).send, caller.tenant, vector_store_id, [file])
    return StoreFileShape.of(await _file(services, caller, vector_store_id, body.file_id), vector_store_id)


@router.get(_FILES, responses=ERRORS)
async def list_files(
    vector_store_id: str,
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    status: Annotated[
        Literal["in_progress", "completed", "failed", "cancelled"] | None,
        Query(alias="filter", description="Only files with this status. No file is ever `cancelled`."),
    ] = None,
) -> StoreFileList:
    """Return the files of a store."""
    only_onwards(before)
    await store_of(services, caller, vector_store_id)
    files: list[StoreFile] = []
    if status != "cancelled":
        files = await services.ask(
            services.ledger.of(VectorStores).files,
            caller.tenant,
            vector_store_id,
            after=None if after is None else await _file(services, caller, vector_store_id, after),
            limit=limit + 1,
            newest_first=order == "desc",
            state=status,
        )
    return StoreFileList.of(files, limit, lambda file: StoreFileShape.of(file, vector_store_id))


@router.get(_FILE, responses=ERRORS)
async def retrieve_file(
    vector_store_id: str, store_file_id: str, caller: Reads, services: Wired, response: Response
) -> StoreFileShape:
    """Return a file of a store. While it is in progress, `openai-poll-after-ms` says when to ask again."""
    shape = StoreFileShape.of(await _file(services, caller, vector_store_id, store_file_id), vector_store_id)
    if shape.status == "in_progress":
        response.headers.update(POLL_AGAIN)
    return shape


@router.post(_FILE, responses=ERRORS, openapi_extra=takes(StoreFileChange))
async def change_file(
    vector_store_id: str, store_file_id: str, request: Request, caller: Writes, services: Wired
) -> StoreFileShape:
    """Replace the attributes of a file."""
    await _file(services, caller, vector_store_id, store_file_id)
    body = body_of(StoreFileChange, await json_object(request))
    attributes = body.attributes or {}
    describe = services.ledger.of(VectorStores).describe
    if not await services.ask(describe, caller.tenant, vector_store_id, store_file_id, attributes):
        raise _no_file()
    return StoreFileShape.of(await _file(services, caller, vector_store_id, store_file_id), vector_store_id)


@router.delete(_FILE, responses=ERRORS)
async def delete_file(vector_store_id: str, store_file_id: str, caller: Writes, services: Wired) -> StoreFileDeleted:
    """Remove a file from a store. The file itself is kept."""
    await _file(services, caller, vector_store_id, store_file_id)
    await services.ask(services.ledger.of(VectorStores).remove_file, caller.tenant, vector_store_id, store_file_id)
    return StoreFileDeleted(id=store_file_id)


@router.get(f"{_FILE}/content", responses=ERRORS, response_model=ContentPage)
async def file_content(vector_store_id: str, store_file_id: str, caller: Reads, services: Wired) -> Response:
    """Return the text of a file as it is searched, passage by passage. It is empty until the file has been read.

    OpenAI's clients ask for no second page, so the response has all passages. It is sent in parts, so that only a part
    is in memory.
    """
    file = await _file(services, caller, vector_store_id, store_file_id)
    document_id = file.document_id
    if document_id is None:
        return JSONResponse(ContentPage(data=[]).model_dump())
    # Read the first rows before the answer begins: an error status can still be sent if the ledger is away.
    first = await services.ask(services.ledger.of(VectorStores).texts, document_id)
    return StreamingResponse(_content_chunks(services, document_id, first), media_type="application/json")


async def _content_chunks(services: Services, document_id: int, part: Part) -> AsyncIterator[bytes]:
    """Yield a ContentPage in parts."""
    begins, ends = ContentPage(data=[]).model_dump_json().split("[]")
    yield f"{begins}[".encode()
    between = ""
    while part.rows:
        texts = [Content(text=row.text).model_dump_json() for row in part.rows]
        yield (between + ",".join(texts)).encode()
        if not part.more:
            yield f"]{ends}".encode()
            return
        between = ","
        part = await services.ask(services.ledger.of(VectorStores).texts, document_id, part.rows[-1].id)
    if between:  # no whole answer: the connection breaks
        raise Refusal(Why.NOT_FOUND, "the file was removed from its store while it was sent")
    yield f"]{ends}".encode()


async def _file(services: Services, caller: Caller, vector_store_id: str, store_file_id: str) -> StoreFile:
    file = await services.known(services.ledger.of(VectorStores).file, caller.tenant, vector_store_id, store_file_id)
    if file is None:
        raise _no_file()
    return file


def _no_file() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant's vector store has no file of this id", param="file_id")


_BATCHES = "/v1/vector_stores/{vector_store_id}/file_batches"
_BATCH = _BATCHES + "/{file_batch_id}"


@router.post(_BATCHES, responses=ERRORS, openapi_extra=takes(NewFileBatch))
async def create_batch(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> FileBatchShape:
    """Add files to a store. They are in progress until recall workers have read them."""
    store = await store_of(services, caller, vector_store_id)
    body = body_of(NewFileBatch, await json_object(request))
    refuse_expired(store)
    wanted = body.wanted()
    files = [await incoming(services, caller, file_id, attributes) for file_id, attributes in wanted.items()]
    batch_id = f"vsfb_{uuid.uuid4().hex}"
    await services.ask(services.ledger.of(FileBatches).send, caller.tenant, vector_store_id, batch_id, files)
    return FileBatchShape.of(await _batch(services, caller, vector_store_id, batch_id), vector_store_id)


@router.get(_BATCH, responses=ERRORS)
async def retrieve_batch(
    vector_store_id: str, file_batch_id: str, caller: Reads, services: Wired, response: Response
) -> FileBatchShape:
    """Return a batch of files. While it is in progress, `openai-poll-after-ms` says when to ask again."""
    shape = FileBatchShape.of(await _batch(services, caller, vector_store_id, file_batch_id), vector_store_id)
    if shape.status == "in_progress":
        response.headers.update(POLL_AGAIN)
    return shape


@router.post(f"{_BATCH}/cancel", responses=ERRORS)
async def cancel_batch(vector_store_id: str, file_batch_id: str, caller: Writes, services: Wired) -> FileBatchShape:
    """Remove the files from the store that were not read yet. A batch that has ended is returned as it is."""
    await _batch(services, caller, vector_store_id, file_batch_id)
    batch = await services.ask(services.ledger.of(FileBatches).cancel, caller.tenant, vector_store_id, file_batch_id)
    if batch is None:
        raise _missing()
    return FileBatchShape.of(batch, vector_store_id)


@router.get(f"{_BATCH}/files", responses=ERRORS)
async def list_batch_files(
    vector_store_id: str,
    file_batch_id: str,
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    status: Annotated[
        Literal["in_progress", "completed", "failed", "cancelled"] | None,
        Query(alias="filter", description="Only files with this status. Cancelled files are no longer there."),
    ] = None,
) -> StoreFileList:
    """Return the files of a batch that are in the store."""
    only_onwards(before)
    batch = await _batch(services, caller, vector_store_id, file_batch_id)
    files = onwards(batch.files, order, after, "this batch has no file of this id")
    store_files = [file for file in files if status in (None, file.state)]
    return StoreFileList.of(store_files, limit, lambda file: StoreFileShape.of(file, vector_store_id))


async def _batch(services: Services, caller: Caller, vector_store_id: str, file_batch_id: str) -> FileBatch:
    batch = await services.known(services.ledger.of(FileBatches).find, caller.tenant, vector_store_id, file_batch_id)
    if batch is None:
        raise _missing()
    return batch


def _missing() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant's vector store has no batch of files of this id", param="batch_id")
