"""Files and uploads over HTTP, as OpenAI's clients send, list and read them. Errors have OpenAI's shape."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, BinaryIO, Final, Literal, Self, TypeVar

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_schemas.limits import NO_NUL
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.files.feature import FILES_READ, FILES_WRITE
from headrace_workers.features.files.store_work import GoesOn, NoPlace, StoreWork
from headrace_workers.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.files.service import BATCH_INPUT, FileInUse, Files, files_in
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.files.uploads import MOST_PARTS, NotPending, Uploads, WrongUpload
from headrace_workers.http.bodies import BODY_BYTES, JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why, unsaid
from headrace_workers.http.hangup import while_here
from headrace_workers.http.openai import ERRORS
from headrace_workers.http.paging import Page
from headrace_workers.http.services import GatewayParts, Services, Wired

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
uploads_router = APIRouter(tags=["uploads"], route_class=JSONRoute)
_PART_BYTES: Final = 64 * 1024**2
_MOST_UPLOAD_BYTES: Final = 8 * 1024**3
BODY_BYTES["/v1/uploads"] = _PART_BYTES + _FORM
_THREADS: Final = 8


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None

    @classmethod
    def of(cls, file: Row[Any]) -> Self:
        """Return the view of a file."""
        return cls(
            id=file.id,
            bytes=file.size,
            created_at=file.created_at // 1000,
            expires_at=None if file.expires_at is None else file.expires_at // 1000,
            filename=file.name,
            purpose=file.purpose,
        )


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
    rows = await services.ask(
        services.ledger.of(StoredFiles).files, caller.tenant, purpose=purpose, after=after, limit=limit + 1,
        newest_first=order == "desc",
    )  # fmt: skip
    return FileList.of(rows, limit, FileObject.of)


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
    row = await services.known(services.ledger.of(StoredFiles).file, file_id, caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, f"{param}: this tenant has no file of this id", param=param)
    return row


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
        raise Refusal(Why.STORE_AWAY, unsaid(error, "the file store"), retry_after=1.0) from error


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


class Announced(BaseModel):
    """A file to be uploaded in parts."""

    model_config = ConfigDict(extra="forbid")

    bytes: Annotated[int, Field(ge=1, le=_MOST_UPLOAD_BYTES)]
    filename: Annotated[str, Field(min_length=1, max_length=255, pattern=NO_NUL)]
    mime_type: str
    purpose: Purpose
    expires_after: Expiry | None = None


class Completed(BaseModel):
    """The parts of a file that is complete, in order."""

    model_config = ConfigDict(extra="forbid")

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[
        str | None, Field(pattern=r"^[0-9A-Fa-f]{32}$", description="The MD5 checksum of all bytes, hexadecimal.")
    ] = None


class UploadShape(BaseModel):
    """An upload: a file that comes in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None = None


class PartShape(BaseModel):
    """A part that was uploaded."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


async def _own(upload_id: str, caller: Writes, services: Wired) -> Any:
    """Return an upload of the caller's tenant before anything else is checked. Raise 404 if there is none."""
    return await _upload(services, caller, upload_id)


Own = Annotated[Any, Depends(_own)]


@uploads_router.post("/v1/uploads", responses=ERRORS)
async def create_upload(caller: Writes, services: Wired, announced: Announced) -> UploadShape:
    """Begin the upload of a file of up to 8 GB. All parts must come within an hour."""
    row = await services.ask(
        services.of(Uploads).begin, tenant=caller.tenant, purpose=announced.purpose, name=announced.filename,
        size=announced.bytes, file_seconds=announced.expires_after.seconds if announced.expires_after else None,
    )  # fmt: skip
    return _shape(row)


@uploads_router.post("/v1/uploads/{upload_id}/parts", responses=ERRORS)
async def add_part(
    request: Request,
    caller: Writes,
    services: Wired,
    upload: Own,
    data: Annotated[UploadFile, File(description="The part, at most 64 MB.")],
) -> PartShape:
    """Add a part. Parts may come in any order, several at a time."""
    await refuse_fields(request, {"data"})
    try:
        storing = stored(
            services,
            caller,
            lambda goes_on: services.of(Uploads).add(upload, chunks_of(data.file, goes_on)),
            data.size or 0,
        )
        part_id, at = await while_here(request, storing)
    except NotPending as error:
        raise Refusal(Why.CONFLICT, str(error), should_retry=False) from error
    except WrongUpload as error:
        raise Refusal(Why.INVALID, str(error), param=error.param) from error
    return PartShape(id=part_id, created_at=at // 1000, upload_id=upload.id)


@uploads_router.post("/v1/uploads/{upload_id}/complete", responses=ERRORS)
async def complete(request: Request, caller: Writes, services: Wired, upload: Own, completed: Completed) -> UploadShape:
    """Make a file of these parts, in this order."""
    try:
        storing = stored(
            services,
            caller,
            lambda goes_on: services.of(Uploads).complete(
                upload, completed.part_ids, completed.md5, lines=upload.purpose == BATCH_INPUT, goes_on=goes_on
            ),
            upload.size,
        )
        file = await while_here(request, storing)
    except NotPending as error:
        raise Refusal(Why.CONFLICT, str(error), should_retry=False) from error
    except WrongUpload as error:
        raise Refusal(Why.INVALID, str(error), param=error.param) from error
    except NotReadable as error:
        raise Refusal(Why.INVALID, f"part_ids: {error}", param="part_ids") from error
    return _shape(await _upload(services, caller, upload.id), FileObject.of(file))


@uploads_router.post("/v1/uploads/{upload_id}/cancel", responses=ERRORS)
async def cancel(caller: Writes, services: Wired, upload: Own) -> UploadShape:
    """Cancel the upload and discard its parts."""
    try:
        await stored(services, caller, lambda _: services.of(Uploads).cancel(upload))
    except NotPending as error:
        raise Refusal(Why.CONFLICT, str(error), should_retry=False) from error
    return _shape(await _upload(services, caller, upload.id))


async def _upload(services: Services, caller: Caller, upload_id: str) -> Row[Any]:
    row = await services.known(services.ledger.of(StoredFiles).upload, upload_id, caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, "upload_id: this tenant has no upload of this id", param="upload_id")
    return row


def _shape(upload: Row[Any], file: FileObject | None = None) -> UploadShape:
    return UploadShape(
        id=upload.id,
        bytes=upload.size,
        created_at=upload.created_at // 1000,
        expires_at=upload.expires_at // 1000,
        filename=upload.name,
        purpose=upload.purpose,
        status=upload.state,
        file=file,
    )


def services(gateway: GatewayParts) -> Mapping[type, object]:
    """Return what the routes of files and uploads work with, by class."""
    files = files_in(gateway.settings.home, gateway.settings, gateway.ledger)
    return {
        Files: files,
        Uploads: Uploads(gateway.ledger.of(StoredFiles), files),
        StoreWork: StoreWork(ThreadPoolExecutor(_THREADS, "store")),
    }
