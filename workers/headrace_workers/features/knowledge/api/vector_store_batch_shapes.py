"""Bodies of a vector store's file batches: the request that is read, and the response."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from headrace_schemas.attributes import AttributeMap, Attributes
from headrace_schemas.model import Value
from headrace_workers.features.knowledge.api.vector_store_shapes import (
    MOST_FILES,
    Chunking,
    FileCounts,
    FileId,
    NewStoreFile,
)
from headrace_workers.features.knowledge.store.file_batches import FileBatch


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
            return {each.file_id: each.attributes or {} for each in self.files}
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
