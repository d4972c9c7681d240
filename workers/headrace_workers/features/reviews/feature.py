"""The reviews feature: the queue of answers that people decide about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from headrace_workers.core.feature import Feature
from headrace_workers.core.scopes import Scope

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

REVIEWS_READ: Final = Scope("reviews:read")
REVIEWS_WRITE: Final = Scope("reviews:write")
REVIEWS_TEXTS: Final = Scope("reviews:texts")  # texts that moderation has not allowed


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.reviews import tables

    return tables_in(tables)


FEATURE = Feature(
    name="reviews",
    tables=_tables,
    scopes=(REVIEWS_READ, REVIEWS_WRITE, REVIEWS_TEXTS),
)
