"""Count of crashes in the middle of one row. A row that ends bridges again and again is given up, so that bridges go
on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Row

from headrace_schemas.errors import Unavailable


class Crashes:
    """The crashes of the rows of one table. Belongs to the thread that is in the middle of them.

    `add` writes down so many crashes more of a row, by its number. One is written down before something is begun, and
    taken back when it has come back, with any result: only those remain in which the process ended.
    """

    def __init__(self, add: Callable[[int, int], object], most: int) -> None:
        self._add = add
        self._most = most
        self._counted: set[int] = set()  # a ledger that was away kept these from being taken back

    def too_many(self, row: Row[Any]) -> int:
        """Return how many there are of a row, where it is not to be tried again; else 0."""
        there = int(row.crashes) - (row.number in self._counted)
        return there if there >= self._most else 0

    @contextmanager
    def counted(self, number: int) -> Iterator[None]:
        """Count one of this row while the body runs. Unavailable."""
        if number not in self._counted:
            self._add(number, 1)
            self._counted.add(number)
        try:
            yield
        finally:
            self._take_back(number)

    def close(self) -> None:
        """Take back what could not be taken back before."""
        for number in list(self._counted):
            self._take_back(number)

    def _take_back(self, number: int) -> None:
        with suppress(Unavailable):
            self._add(number, -1)
            self._counted.discard(number)
