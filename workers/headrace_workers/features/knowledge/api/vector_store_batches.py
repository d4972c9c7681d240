"""Batches of files of OpenAI's vector stores: put in with one request, and looked at together."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from headrace_workers.features.knowledge.api.vector_store_batch_shapes import FileBatchShape, NewFileBatch
from headrace_workers.features.knowledge.api.vector_store_shapes import (
    ERRORS,
    POLL_AGAIN,
    StoreFileList,
    StoreFileShape,
    body_of,
    takes,
)
from headrace_workers.features.knowledge.api.vector_stores import Reads, Writes, incoming, refuse_expired, store_of
from headrace_workers.features.knowledge.store.file_batches import FileBatch, FileBatches
from headrace_workers.http.authenticated_route import Guarded
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.paging import PAGE, After, Before, Limit, Order, only_onwards, onwards
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["vector stores"], route_class=Guarded)

_ALL = "/v1/vector_stores/{vector_store_id}/file_batches"
_ONE = _ALL + "/{file_batch_id}"


@router.post(_ALL, responses=ERRORS, openapi_extra=takes(NewFileBatch))
async def create(vector_store_id: str, request: Request, caller: Writes, services: Wired) -> FileBatchShape:
    """Add files to a store. They are in progress until recall workers have read them."""
    store = await store_of(services, caller, vector_store_id)
    body = body_of(NewFileBatch, await json_object(request))
    refuse_expired(store)
    wanted = body.wanted()
    files = [await incoming(services, caller, file_id, attributes) for file_id, attributes in wanted.items()]
    batch_id = f"vsfb_{uuid.uuid4().hex}"
    await services.ask(services.ledger.of(FileBatches).send, caller.tenant, vector_store_id, batch_id, files)
    return FileBatchShape.of(await _batch(services, caller, vector_store_id, batch_id), vector_store_id)


@router.get(_ONE, responses=ERRORS)
async def retrieve(
    vector_store_id: str, file_batch_id: str, caller: Reads, services: Wired, response: Response
) -> FileBatchShape:
    """Return a batch of files. While it is in progress, `openai-poll-after-ms` says when to ask again."""
    found = FileBatchShape.of(await _batch(services, caller, vector_store_id, file_batch_id), vector_store_id)
    if found.status == "in_progress":
        response.headers.update(POLL_AGAIN)
    return found


@router.post(f"{_ONE}/cancel", responses=ERRORS)
async def cancel(vector_store_id: str, file_batch_id: str, caller: Writes, services: Wired) -> FileBatchShape:
    """Remove the files from the store that were not read yet. A batch that has ended is returned as it is."""
    await _batch(services, caller, vector_store_id, file_batch_id)
    found = await services.ask(services.ledger.of(FileBatches).cancel, caller.tenant, vector_store_id, file_batch_id)
    if found is None:
        raise _missing()
    return FileBatchShape.of(found, vector_store_id)


@router.get(f"{_ONE}/files", responses=ERRORS)
async def list_files(
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
    found = [each for each in files if status in (None, each.state)]
    return StoreFileList.of(found, limit, lambda each: StoreFileShape.of(each, vector_store_id))


async def _batch(services: Services, caller: Caller, vector_store_id: str, file_batch_id: str) -> FileBatch:
    found = await services.known(services.ledger.of(FileBatches).find, caller.tenant, vector_store_id, file_batch_id)
    if found is None:
        raise _missing()
    return found


def _missing() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant's vector store has no batch of files of this id", param="batch_id")
