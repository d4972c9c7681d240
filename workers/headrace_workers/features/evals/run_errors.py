"""Errors of a run: of its file, its dataset, or its folder."""

from collections.abc import Sequence

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.json_lines import listed


class WrongRun(HeadraceError):
    """A run file that says something else than it may; the message has the file, the field and what it may be."""

    category = Category.INVALID


class WrongRows(HeadraceError):
    """Rows of a dataset that do not do; the message has a line `file:line: reason` for each."""

    category = Category.INVALID

    def __init__(self, problems: Sequence[str], count: int | None = None) -> None:
        count = len(problems) if count is None else count
        noun = "row is" if count == 1 else "rows are"
        super().__init__(f"{count:,} {noun} wrong, and nothing was asked:\n{listed(problems, count)}")
