"""How lists are asked for a page at a time, as OpenAI's clients do."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Protocol, TypeVar

from fastapi import Query

from headrace_schemas.errors import InvalidRecord

PAGE: Final = 20

Limit = Annotated[int, Query(ge=1, le=100, description="So many of one page.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The newest first: `desc`.")]
After = Annotated[str | None, Query(description="The last one of the page before.")]
Before = Annotated[str | None, Query(description="Is refused: page on with `after`, in either order.")]


def only_onwards(before: str | None) -> None:
    """400 for who pages back."""
    if before is not None:
        raise InvalidRecord("before: is not taken: page on with after, in either order")


class Named(Protocol):
    """One of a list."""

    @property
    def id(self) -> str:
        """Which one."""


Each = TypeVar("Each", bound=Named)


def onwards(found: Sequence[Each], order: str, after: str | None, missing: str) -> list[Each]:
    """Of these, the oldest first: in this order, what comes after that id. 400 with `missing` where it is none's."""
    ordered = list(reversed(found)) if order == "desc" else list(found)
    if after is None:
        return ordered
    place = next((place for place, each in enumerate(ordered) if each.id == after), None)
    if place is None:
        raise InvalidRecord(f"after: {missing}")
    return ordered[place + 1 :]
