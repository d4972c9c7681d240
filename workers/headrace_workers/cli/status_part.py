"""A feature's part of `headrace status`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPart:
    """A table of `headrace status`, which is left out if it has no rows, and the list of the same in `--json`.

    `name` is the list's in `--json`. `right` are the columns that are aligned to the right.
    """

    name: str
    items: Sequence[Mapping[str, Any]]
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    right: Sequence[str] = ()
