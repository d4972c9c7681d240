"""Readiness of a stack's processes: each writes it to its log."""

import json
from collections.abc import Mapping
from pathlib import Path

from headrace_workers.runtime.embedded.child_processes import ChildFailed, last_words, started_at
from headrace_workers.runtime.embedded.home import CHILDREN_FILE


class LogWatch:
    """A search for a phrase in the part of a log that follows `mark`."""

    def __init__(self, log: Path, phrase: str) -> None:
        self.log = log
        self._phrase = phrase.encode()
        self._from = 0

    def mark(self) -> None:
        """Search from here on. A log that is rotated later is read from its beginning."""
        self._from = self.log.stat().st_size if self.log.is_file() else 0

    def seen(self) -> bool:
        """Return True if the phrase was written since."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(self._from if self._from <= size else 0)
                return self._phrase in file.read()
        except FileNotFoundError:
            return False


def still_starting(home: Path, watches: Mapping[str, LogWatch]) -> list[str]:
    """Return the processes that are not ready yet. Raise ChildFailed at once if one has ended."""
    waiting = {name: watch for name, watch in watches.items() if not watch.seen()}
    if not waiting:
        return []
    for name, pid in _children(home).items():
        if name in waiting and started_at(pid) is None:
            log = waiting[name].log
            raise ChildFailed(f"{name} ended while it was started{last_words(log)}; see {log}")
    return list(waiting)


def _children(home: Path) -> dict[str, int]:
    try:
        rows = json.loads((home / CHILDREN_FILE).read_text(encoding="utf-8"))
        return {str(row["name"]): int(row["pid"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
