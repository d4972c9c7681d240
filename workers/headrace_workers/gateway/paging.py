"""How lists are asked for a page at a time, as OpenAI's clients do."""

from typing import Annotated, Final, Literal

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
