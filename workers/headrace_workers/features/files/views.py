"""Files as everybody sees them, as OpenAI's object. Pure. Times are seconds since 1970."""

from typing import Any, Literal, Self

from pydantic import BaseModel
from sqlalchemy import Row


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
