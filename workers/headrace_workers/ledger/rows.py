"""A row that a step wants written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Table


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is written in the transaction that completes a step. One whose key is there already is passed over."""

    table: "Table"
    values: Mapping[str, Any]
