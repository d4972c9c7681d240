"""Whether the processes of a stack are ready for work: each says so in its log."""

import json
from collections.abc import Mapping
from pathlib import Path

from headrace_workers.runtime.embedded.lock import CHILDREN_FILE
from headrace_workers.runtime.embedded.processes import ChildFailed, last_words, started_at


class LogWatch:
    """Looks for a phrase in what is added to a log after `mark`."""

    def __init__(self, log: Path, phrase: str) -> None:
        self.log = log
        self._phrase = phrase.encode()
        self._from = 0

    def mark(self) -> None:
        """From here on; a log that is then put aside because of its size is read from its beginning."""
        self._from = self.log.stat().st_size if self.log.is_file() else 0

    def seen(self) -> bool:
        """Whether the phrase was written since."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(self._from if self._from <= size else 0)
                return self._phrase in file.read()
        except FileNotFoundError:
            return False


def still_starting(home: Path, watches: Mapping[str, LogWatch]) -> list[str]:
    """Who has not said so yet; ChildFailed when one has ended instead: a start that fails is told at once."""
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
