"""Rows that a step wants written in the transaction that completes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


class Written(Protocol):
    """Something that is written in the transaction that completes a step."""

    def write(self, connection: "Connection") -> object:
        """Write the rows. Rows that exist are skipped."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row. If its key is there already, it is skipped."""

    table: "Table"
    values: Mapping[str, Any]

    def write(self, connection: "Connection") -> None:
        """Write it."""
        from headrace_workers.core.sql.database import insert

        connection.execute(insert(connection, self.table).values(dict(self.values)).on_conflict_do_nothing())
