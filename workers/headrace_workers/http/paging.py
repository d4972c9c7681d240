"""Paging of lists, as OpenAI's clients do it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Generic, Literal, Protocol, Self, TypeVar, cast

from fastapi import Query
from pydantic import BaseModel

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import NO_NUL

PAGE: Final = 20

Limit = Annotated[int, Query(ge=1, le=100, description="The number of items on a page.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The order: `desc` returns the newest first.")]
After = Annotated[str | None, Query(pattern=NO_NUL, description="The id of the last item of the previous page.")]
Before = Annotated[str | None, Query(description="Not supported: page with `after`, in either order.")]


def only_onwards(before: str | None) -> None:
    """Raise 400 for a request that pages back."""
    if before is not None:
        raise InvalidRecord("before: is not taken: page on with after, in either order", param="before")


class Named(Protocol):
    """Item of a list."""

    @property
    def id(self) -> str:
        """The item's id."""


Each = TypeVar("Each", bound=Named)
Shape = TypeVar("Shape", bound=BaseModel)
Found = TypeVar("Found")


class Page(BaseModel, Generic[Shape]):
    """A page of a list; its items have an `id`."""

    object: Literal["list"] = "list"
    data: list[Shape]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, items: Sequence[Found], limit: int, shape: Callable[[Found], Shape], *, more: bool = False) -> Self:
        """Return the first `limit` items, each in its shape, and if there are more."""
        data = [shape(row) for row in items[:limit]]
        ids = [item.id for item in cast(list[Named], data)]
        return cls(
            data=data,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
            has_more=more or len(items) > limit,
        )


def onwards(items: Sequence[Each], order: str, after: str | None, missing: str) -> list[Each]:
    """Return the items after this id, the oldest first. Raise 400 with `missing` if the id is unknown."""
    ordered = list(reversed(items)) if order == "desc" else list(items)
    if after is None:
        return ordered
    index = next((index for index, item in enumerate(ordered) if item.id == after), None)
    if index is None:
        raise InvalidRecord(f"after: {missing}", param="after")
    return ordered[index + 1 :]
