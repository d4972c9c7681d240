"""Uploads of large files in parts, as OpenAI's clients do them."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, File, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_schemas.limits import NO_NUL
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.files.api.files import (
    Expiry,
    Purpose,
    Writes,
    chunks_of,
    refuse_fields,
    stored,
)
from headrace_workers.features.files.file_service import BATCH_INPUT
from headrace_workers.features.files.store.stored import StoredFiles
from headrace_workers.features.files.upload_service import MOST_PARTS, NotPending, Uploads, WrongUpload
from headrace_workers.features.files.views import FileObject
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.bounds import BODY_BYTES
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.hangup import while_here
from headrace_workers.http.openai_shapes import ERRORS
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["uploads"], route_class=JSONRoute)

_PART_BYTES: Final = 64 * 1024**2
_MOST_BYTES: Final = 8 * 1024**3
_FORM: Final = 65_536
BODY_BYTES["/v1/uploads"] = _PART_BYTES + _FORM


class Announced(BaseModel):
    """A file to be uploaded in parts."""

    model_config = ConfigDict(extra="forbid")

    bytes: Annotated[int, Field(ge=1, le=_MOST_BYTES)]
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


@router.post("/v1/uploads", responses=ERRORS)
async def create(caller: Writes, services: Wired, announced: Announced) -> UploadShape:
    """Begin the upload of a file of up to 8 GB. All parts must come within an hour."""
    row = await services.ask(
        services.of(Uploads).begin, tenant=caller.tenant, purpose=announced.purpose, name=announced.filename,
        size=announced.bytes, file_seconds=announced.expires_after.seconds if announced.expires_after else None,
    )  # fmt: skip
    return _shape(row)


@router.post("/v1/uploads/{upload_id}/parts", responses=ERRORS)
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


@router.post("/v1/uploads/{upload_id}/complete", responses=ERRORS)
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


@router.post("/v1/uploads/{upload_id}/cancel", responses=ERRORS)
async def cancel(caller: Writes, services: Wired, upload: Own) -> UploadShape:
    """Cancel the upload and discard its parts."""
    try:
        await stored(services, caller, lambda _: services.of(Uploads).cancel(upload))
    except NotPending as error:
        raise Refusal(Why.CONFLICT, str(error), should_retry=False) from error
    return _shape(await _upload(services, caller, upload.id))


async def _upload(services: Services, caller: Caller, upload_id: str) -> Row[Any]:
    found = await services.known(services.ledger.of(StoredFiles).upload, upload_id, caller.tenant)
    if found is None:
        raise Refusal(Why.NOT_FOUND, "upload_id: this tenant has no upload of this id", param="upload_id")
    return found


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
