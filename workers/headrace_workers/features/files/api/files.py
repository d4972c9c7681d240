"""Files over HTTP, as OpenAI's clients send, list and read them. Errors have OpenAI's shape."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, BinaryIO, Final, Literal, TypeVar

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_schemas.limits import NO_NUL
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.files.feature import FILES_READ, FILES_WRITE
from headrace_workers.features.files.file_service import BATCH_INPUT, FileInUse, Files
from headrace_workers.features.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.features.files.store.stored import StoredFiles
from headrace_workers.features.files.store_work import GoesOn, NoPlace, StoreWork
from headrace_workers.features.files.views import FileObject
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.bounds import BODY_BYTES
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why, unsaid
from headrace_workers.http.hangup import while_here
from headrace_workers.http.openai_shapes import ERRORS
from headrace_workers.http.paging import Page
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["files"], route_class=JSONRoute)

T = TypeVar("T")

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Reads = Annotated[Caller, needs(FILES_READ)]
Writes = Annotated[Caller, needs(FILES_WRITE)]

_CHUNK: Final = 1024**2  # bytes
STORE_SECONDS = 30.0  # that the store has for anything, beside what bytes take
_FORM: Final = 65_536  # bytes of a form beside its file
MOST_BYTES: Final = 512 * 1024**2  # of a file that is sent at once; larger files come in parts
SHORTEST_LIFE, LONGEST_LIFE = 3_600, 30 * 86_400  # seconds, as OpenAI has it
BODY_BYTES["/v1/files"] = MOST_BYTES + _FORM


class FileList(Page[FileObject]):
    """Files, a page of them."""


class FileDeleted(BaseModel):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Expiry(BaseModel):
    """The time that something is kept, from its creation."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE)]


@router.post("/v1/files", responses=ERRORS)
async def create(
    request: Request,
    caller: Writes,
    services: Wired,
    file: Annotated[UploadFile, File(description="The content of the file.")],
    purpose: Annotated[Purpose, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=SHORTEST_LIFE, le=LONGEST_LIFE)] = None,
) -> FileObject:
    """Store a file. It is kept until it is deleted, or for `expires_after`."""
    known = {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
    await refuse_fields(request, known)
    if (anchor is None) != (seconds is None):
        raise Refusal(Why.INVALID, "expires_after: needs the anchor created_at, and seconds", param="expires_after")
    try:
        storing = stored(
            services,
            caller,
            lambda goes_on: services.of(Files).add(
                chunks_of(file.file, goes_on), tenant=caller.tenant, purpose=purpose, name=name_of(file), keep=seconds,
                lines=purpose == BATCH_INPUT, goes_on=goes_on,
            ),
            size=file.size or 0,
        )  # fmt: skip
        row = await while_here(request, storing)
    except NotReadable as error:
        raise Refusal(Why.INVALID, f"file: {error}", param="file") from error
    return FileObject.of(row)


@router.get("/v1/files", responses=ERRORS)
async def list_files(
    caller: Reads,
    services: Wired,
    purpose: Annotated[str | None, Query(pattern=NO_NUL, description="Only files of this purpose.")] = None,
    after: Annotated[str | None, Query(description="The id of the last file of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="The number of files on a page.")] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="The order: `desc` returns the newest first.")] = "desc",
) -> FileList:
    """Return the tenant's files, ordered by age."""
    if after is not None:
        await file_of(services, caller, after, "after")
    found = await services.ask(
        services.ledger.of(StoredFiles).files, caller.tenant, purpose=purpose, after=after, limit=limit + 1,
        newest_first=order == "desc",
    )  # fmt: skip
    return FileList.of(found, limit, FileObject.of)


@router.get("/v1/files/{file_id}", responses=ERRORS)
async def show(file_id: str, caller: Reads, services: Wired) -> FileObject:
    """Return a file's description."""
    return FileObject.of(await file_of(services, caller, file_id))


@router.get(
    "/v1/files/{file_id}/content",
    responses={**ERRORS, 200: {"description": "The file's content.", "content": {"application/octet-stream": {}}}},
    response_class=StreamingResponse,
)
async def content(file_id: str, caller: Reads, services: Wired) -> StreamingResponse:
    """Return the content of a file. The output of a batch can be read while it grows."""
    row = await file_of(services, caller, file_id)
    chunks = services.of(Files).chunks(row.id)
    # Read the first chunk before the answer begins: an error status can still be sent if the store is away.
    first = await stored(services, caller, lambda _: next(chunks, b""))
    return StreamingResponse(_behind(first, chunks), media_type="application/octet-stream")


@router.delete("/v1/files/{file_id}", responses=ERRORS)
async def delete(file_id: str, caller: Writes, services: Wired) -> FileDeleted:
    """Delete a file. 409 while a batch reads or writes it."""
    row = await file_of(services, caller, file_id)
    try:
        await stored(services, caller, lambda _: services.of(Files).remove(row.id))
    except FileInUse as error:
        raise Refusal(Why.CONFLICT, str(error), should_retry=False) from error
    return FileDeleted(id=file_id)


async def file_of(services: Services, caller: Caller, file_id: str, param: str = "file_id") -> Row[Any]:
    """Return a file of the caller's tenant. Raise 403 if the caller may not read files, 404 if there is none."""
    caller.need(FILES_READ, param)
    found = await services.known(services.ledger.of(StoredFiles).file, file_id, caller.tenant)
    if found is None:
        raise Refusal(Why.NOT_FOUND, f"{param}: this tenant has no file of this id", param=param)
    return found


async def stored(services: Services, caller: Caller, work: Callable[[GoesOn], T], size: int = 0) -> T:
    """Return what `work` with the file store returns, on a thread of the store's own.

    Raise 503 if the store does not answer, or is slower than a mebibyte a second; 429 if other work of this tenant
    takes as long; 404 if the file is gone. Work that has begun ends when it next calls what it was given, or may go on.
    """
    patience = STORE_SECONDS + size / 1024**2
    try:
        return await services.of(StoreWork).do(caller.tenant, work, patience)
    except NoPlace as error:
        raise Refusal(Why.RATE, f"{error}: send fewer at a time", retry_after=10.0) from None
    except TimeoutError:
        raise Refusal(Why.STORE_AWAY, f"no answer within {patience:.0f} s", retry_after=10.0) from None
    except NoSuchObject:
        raise Refusal(Why.NOT_FOUND, "the content of this file was deleted meanwhile") from None
    except StoreUnavailable as error:
        raise Refusal(Why.STORE_AWAY, unsaid(error), retry_after=1.0) from error


async def refuse_fields(request: Request, known: set[str]) -> None:
    """Refuse, by name, a form field that is not among these or comes twice."""
    seen = set()
    for name, _ in (await request.form()).multi_items():
        if name not in known:
            raise Refusal(Why.INVALID, f"{name}: is not supported here", param=name, code="unknown_parameter")
        if name in seen:
            raise Refusal(Why.INVALID, f"{name}: is given more than once", param=name)
        seen.add(name)


def name_of(file: UploadFile) -> str:
    """Return the name of a file, without folders and characters that no database takes."""
    name = (file.filename or "").replace("\\", "/").rpartition("/")[2].replace("\x00", "")
    return name.encode("utf-8", "replace").decode()[:255] or "file"


def chunks_of(file: BinaryIO, goes_on: GoesOn) -> Iterator[bytes]:
    """Yield the uploaded bytes in chunks; `goes_on` is called for each, and may raise."""
    file.seek(0)
    while chunk := file.read(_CHUNK):
        goes_on()
        yield chunk


def _behind(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
