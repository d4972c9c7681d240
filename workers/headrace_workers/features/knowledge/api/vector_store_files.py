"""Files of OpenAI's vector stores: documents of knowledge bases, and files that wait to become one."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from headrace_workers.core.sql.paging import Part
from headrace_workers.features.knowledge.api.vector_store_shapes import (
    ERRORS,
    POLL_AGAIN,
    Content,
    ContentPage,
    NewStoreFile,
    StoreFileChange,
    StoreFileDeleted,
    StoreFileList,
    StoreFileShape,
    body_of,
    takes,
)
from headrace_workers.features.knowledge.api.vector_stores import Reads, Writes, incoming, refuse_expired, store_of
from headrace_workers.features.knowledge.store.store_files import StoreFile
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.http.authenticated_route import Guarded
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.paging import PAGE, After, Before, Limit, Order, only_onwards
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["vector stores"], route_class=Guarded)

_ALL = "/v1/vector_stores/{vector_store_id}/files"
_ONE = _ALL + "/{store_file_id}"


@router.post(_ALL, responses=ERRORS, openapi_extra=takes(NewStoreFile))
async def create(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> StoreFileShape:
    """Add a file to a store. It is in progress until a recall worker has read it."""
    store = await store_of(services, caller, vector_store_id)
    body = body_of(NewStoreFile, await json_object(request))
    refuse_expired(store)
    file = await incoming(services, caller, body.file_id, body.attributes or {})
    await services.ask(services.ledger.of(VectorStores).send, caller.tenant, vector_store_id, [file])
    return StoreFileShape.of(await _file(services, caller, vector_store_id, body.file_id), vector_store_id)


@router.get(_ALL, responses=ERRORS)
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
    found: list[StoreFile] = []
    if status != "cancelled":
        found = await services.ask(
            services.ledger.of(VectorStores).files,
            caller.tenant,
            vector_store_id,
            after=None if after is None else await _file(services, caller, vector_store_id, after),
            limit=limit + 1,
            newest_first=order == "desc",
            state=status,
        )
    return StoreFileList.of(found, limit, lambda each: StoreFileShape.of(each, vector_store_id))


@router.get(_ONE, responses=ERRORS)
async def retrieve(
    vector_store_id: str, store_file_id: str, caller: Reads, services: Wired, response: Response
) -> StoreFileShape:
    """Return a file of a store. While it is in progress, `openai-poll-after-ms` says when to ask again."""
    found = StoreFileShape.of(await _file(services, caller, vector_store_id, store_file_id), vector_store_id)
    if found.status == "in_progress":
        response.headers.update(POLL_AGAIN)
    return found


@router.post(_ONE, responses=ERRORS, openapi_extra=takes(StoreFileChange))
async def change(
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


@router.delete(_ONE, responses=ERRORS)
async def delete(vector_store_id: str, store_file_id: str, caller: Writes, services: Wired) -> StoreFileDeleted:
    """Remove a file from a store. The file itself is kept."""
    await _file(services, caller, vector_store_id, store_file_id)
    await services.ask(services.ledger.of(VectorStores).remove_file, caller.tenant, vector_store_id, store_file_id)
    return StoreFileDeleted(id=store_file_id)


@router.get(f"{_ONE}/content", responses=ERRORS, response_model=ContentPage)
async def content(vector_store_id: str, store_file_id: str, caller: Reads, services: Wired) -> Response:
    """Return the text of a file as it is searched, passage by passage. It is empty until the file has been read.

    OpenAI's clients ask for no second page, so the response has all passages. It is sent in parts, so that only a part
    is in memory.
    """
    found = await _file(services, caller, vector_store_id, store_file_id)
    document_id = found.document_id
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
    found = await services.known(services.ledger.of(VectorStores).file, caller.tenant, vector_store_id, store_file_id)
    if found is None:
        raise _no_file()
    return found


def _no_file() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant's vector store has no file of this id", param="file_id")
