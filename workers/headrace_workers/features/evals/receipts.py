"""The receipts of a run's jobs: found by the lines of the jobs, read when they are needed, and never all in memory."""

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic_core import from_json

_LINE: Final = re.compile(rb'\{"line":(\d+),')


class Receipts:
    """The receipts of a run's jobs, by line. The last receipt of a line counts."""

    def __init__(self, content: "mmap.mmap | bytes", jobs: int) -> None:
        self._content = content
        self._starts = np.full(jobs + 1, -1, dtype=np.int64)
        self._ends = np.zeros(jobs + 1, dtype=np.int64)
        start, size = 0, len(content)
        while start < size:
            end = content.find(b"\n", start)
            end = size if end < 0 else end
            head = _LINE.match(content, start)
            if head is not None and (line := int(head[1])) <= jobs:
                self._starts[line], self._ends[line] = start, end
            start = end + 1

    def of(self, line: int) -> dict[str, Any] | None:
        """Return the receipt of a job as it stands in the file, or None."""
        start = int(self._starts[line])
        if start < 0:
            return None
        found: dict[str, Any] = from_json(self._content[start : int(self._ends[line])])
        return found


@contextmanager
def opened(path: Path, jobs: int) -> Iterator[Receipts]:
    """Yield the receipts in a file, of a limited number of jobs; none where there is no file."""
    if not path.is_file() or path.stat().st_size == 0:
        yield Receipts(b"", jobs)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield Receipts(content, jobs)


def status_of(receipt: dict[str, Any] | None) -> str:
    """Return completed, blocked, dead, cancelled, or missing."""
    if receipt is None:
        return "missing"
    status = receipt.get("status")
    if isinstance(status, str):
        return status
    return "dead" if "category" in receipt else "cancelled"


def failure_of(receipt: dict[str, Any] | None) -> str | None:
    """Return the reason why there is no answer to judge, in words, or None."""
    match status_of(receipt):
        case "completed":
            return None
        case "missing":
            return "no answer yet"
        case "blocked":
            return "blocked by moderation"
        case "cancelled":
            return f"cancelled: {(receipt or {}).get('reason') or 'no reason given'}"
        case _:
            failure = receipt or {}
            return f"{failure.get('category')} at {failure.get('stage')}: {failure.get('reason')}"


def text_of(receipt: dict[str, Any] | None) -> str | None:
    """Return the answer's text, or None."""
    answer = (receipt or {}).get("answer") or {}
    text = answer.get("text")
    return text if isinstance(text, str) else None
