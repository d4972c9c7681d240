"""The files that clients send and that headrace writes: their rows in the ledger, and the store of their bytes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headrace_workers.core.feature import ExtensionPoint

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

# Each value returns a query for the ids of unfinished users of the file with this id (a text or a column), such as
# batches: a file in use is not deleted.
FILE_USERS: "Final[ExtensionPoint[Callable[[str | ColumnElement[str]], Select[str]]]]" = ExtensionPoint()
