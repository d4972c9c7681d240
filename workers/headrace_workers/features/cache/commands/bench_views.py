"""Views of measurements on your own data: tables, words, JSON, and a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace_workers.cli.layout import Rows


@dataclass(frozen=True, slots=True)
class Shown:
    """The tables for a terminal and the words below them, everything for `--json`, and what makes the page."""

    tables: Sequence[Rows]
    words: Sequence[str]
    document: dict[str, Any]
    page: Callable[[], str]


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in percent; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number; a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def rounded(value: float | None) -> float | None:
    """Return a number for JSON."""
    return None if value is None else round(value, 6)
