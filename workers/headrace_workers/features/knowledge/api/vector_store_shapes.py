"""Bodies of OpenAI's vector stores: requests that are read, and responses."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from headrace_schemas.attributes import AttributeKey, AttributeMap, Attributes, Filter
from headrace_schemas.limits import NO_NUL, NonEmptyText
from headrace_schemas.model import Value
from headrace_schemas.reasons import invalid_record
from headrace_workers.features.knowledge.store.store_files import Store, StoreFile, file_of
from headrace_workers.features.knowledge.store.vector_stores import FileBatch
from headrace_workers.http.paging import Page

if TYPE_CHECKING:  # it imports NumPy
    from headrace_workers.features.knowledge.passages import Hit

MOST_RESULTS: Final = 50
MOST_FILES: Final = 500
POLL_AGAIN: Final = {"openai-poll-after-ms": "500"}  # OpenAI's clients wait so long between two looks
_MOST_QUERIES: Final = 16

FileId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]
_Name = Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL)]
_Text = Annotated[str, StringConstraints(max_length=512, pattern=NO_NUL)]
_Metadata = Annotated[dict[AttributeKey, _Text], Field(max_length=16)]
V = TypeVar("V", bound=Value)


class ExpiresAfter(Value):
    """The expiry of a store's documents: so many days after its last use."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class Chunking(Value):
    """The chunking strategy. Only `auto` is supported: the deployment chooses how documents are cut."""

    type: Literal["auto"]


class NewStore(Value):
    """A store to be created."""

    name: _Name | None = None
    description: Annotated[str, StringConstraints(max_length=2_000, pattern=NO_NUL)] | None = None
    metadata: _Metadata | None = None
    expires_after: ExpiresAfter | None = None
    file_ids: Annotated[tuple[FileId, ...], Field(max_length=MOST_FILES)] = ()
    chunking_strategy: Chunking | None = None


class StoreChange(Value):
    """The changes of a store; a field that is absent stays as it is."""

    name: _Name | None = None
    metadata: _Metadata | None = None
    expires_after: ExpiresAfter | None = None


class Ranking(Value):
    """The ranking. Passages below `score_threshold` are left out."""

    ranker: Literal["none", "auto"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


def _as_several(query: Any) -> Any:
    return (query,) if isinstance(query, str) else query


class StoreSearch(Value):
    """A search for one query, or for several, whose results are merged."""

    query: Annotated[
        tuple[NonEmptyText, ...], Field(min_length=1, max_length=_MOST_QUERIES), BeforeValidator(_as_several)
    ]
    filters: Filter | None = None
    max_num_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 10
    ranking_options: Ranking | None = None
    rewrite_query: Literal[False] | None = None


class NewStoreFile(Value):
    """A file to be added to a store."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class StoreFileChange(Value):
    """The new attributes of a file. They replace all that it has."""

    attributes: Attributes | None


BODIES: Final[tuple[type[BaseModel], ...]] = (NewStore, StoreChange, StoreSearch, NewStoreFile, StoreFileChange)


class FileCounts(BaseModel):
    """The numbers of a store's files, by state."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class VectorStoreShape(BaseModel):
    """A vector store."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    name: str
    description: str | None
    status: Literal["expired", "in_progress", "completed"]
    created_at: int
    last_active_at: int
    usage_bytes: int
    file_counts: FileCounts
    metadata: dict[str, str]
    expires_after: ExpiresAfter | None
    expires_at: int | None

    @classmethod
    def of(cls, store: Store) -> "VectorStoreShape":
        """Return the body in OpenAI's form."""
        counts = FileCounts(
            in_progress=store.coming,
            completed=store.documents,
            failed=store.failed,
            cancelled=0,
            total=store.coming + store.documents + store.failed,
        )
        days = store.expire_days
        return cls(
            id=store.id,
            name=store.name,
            description=store.description,
            status="expired" if store.expired else "in_progress" if store.coming else "completed",
            created_at=store.created_at // 1000,
            last_active_at=store.used_at // 1000,
            usage_bytes=store.size,
            file_counts=counts,
            metadata=dict(store.metadata),
            expires_after=None if days is None else ExpiresAfter(anchor="last_active_at", days=days),
            expires_at=None if store.expires_at is None else store.expires_at // 1000,
        )


class StoreList(Page[VectorStoreShape]):
    """A page of stores."""


class StoreDeleted(BaseModel):
    """A store that was deleted."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True


class LastError(BaseModel):
    """The reason why a file could not become a document."""

    code: str
    message: str


class StoreFileShape(BaseModel):
    """A file of a store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    vector_store_id: str
    status: Literal["in_progress", "completed", "failed"]
    created_at: int
    usage_bytes: int
    attributes: Attributes
    last_error: LastError | None
    chunking_strategy: dict[str, str]

    @classmethod
    def of(cls, file: StoreFile, store_id: str) -> "StoreFileShape":
        """Return the body in OpenAI's form."""
        return cls(
            id=file.id,
            vector_store_id=store_id,
            status=file.state,
            created_at=file.created_at // 1000,
            usage_bytes=file.size,
            attributes=dict(file.attributes),
            last_error=None if file.code is None else LastError(code=file.code, message=file.reason or ""),
            chunking_strategy={"type": "other"},
        )


class StoreFileList(Page[StoreFileShape]):
    """A page of a store's files."""


class StoreFileDeleted(BaseModel):
    """A file that was removed from the store; the file itself stays."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


class Content(BaseModel):
    """A passage."""

    type: Literal["text"] = "text"
    text: str


class ContentPage(BaseModel):
    """The text of a file, passage by passage."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[Content]
    has_more: Literal[False] = False
    next_page: None = None


class SearchHit(BaseModel):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[Content]

    @classmethod
    def of(cls, hit: "Hit") -> "SearchHit":
        """Return the body in OpenAI's form."""
        file_id, name = file_of(hit.chunk.document, hit.document_id)
        return cls(
            file_id=file_id,
            filename=name,
            score=round(hit.score, 6),
            attributes=dict(hit.attributes),
            content=[Content(text=hit.chunk.text)],
        )


class SearchPage(BaseModel):
    """A page of passages, the best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchHit]
    has_more: Literal[False] = False
    next_page: None = None


def body_of(kind: type[V], body: Mapping[str, Any]) -> V:
    """Return the validated body. Raise InvalidRecord, which says what is wrong with which field."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise invalid_record(error) from None


_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    },
}
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "Why there is no answer, in OpenAI's shape.",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["error"], "properties": {"error": _ERROR}}}
        },
    }
}


def takes(kind: type[Value]) -> dict[str, Any]:
    """Return the OpenAPI part of a route that reads this body itself."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class NewFileBatch(Value):
    """Files to be put into a store: by their ids, with the same attributes, or each with its own."""

    file_ids: Annotated[tuple[FileId, ...], Field(max_length=MOST_FILES)] | None = None
    files: Annotated[tuple[NewStoreFile, ...], Field(max_length=MOST_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if bool(self.file_ids) == bool(self.files):
            raise ValueError("name files in file_ids or in files: one of them, with at least one file")
        if self.files and self.attributes is not None:
            raise ValueError("attributes go with file_ids: in files each file has its own")
        return self

    def wanted(self) -> dict[str, AttributeMap]:
        """Return the attributes of each file, by its id."""
        if self.files:
            return {file.file_id: file.attributes or {} for file in self.files}
        return dict.fromkeys(self.file_ids or (), self.attributes or {})


class FileBatchShape(BaseModel):
    """A batch of files."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    vector_store_id: str
    created_at: int
    status: Literal["in_progress", "completed", "cancelled"]
    file_counts: FileCounts

    @classmethod
    def of(cls, batch: FileBatch, store_id: str) -> "FileBatchShape":
        """Return the body in OpenAI's form. A file that was removed from the store no longer counts."""
        cancelled, coming = batch.cancelled or 0, batch.count("in_progress")
        counts = FileCounts(
            in_progress=coming,
            completed=batch.count("completed"),
            failed=batch.count("failed"),
            cancelled=cancelled,
            total=len(batch.files) + cancelled,
        )
        return cls(
            id=batch.id,
            vector_store_id=store_id,
            created_at=batch.created_at // 1000,
            status="cancelled" if batch.cancelled is not None else "in_progress" if coming else "completed",
            file_counts=counts,
        )
