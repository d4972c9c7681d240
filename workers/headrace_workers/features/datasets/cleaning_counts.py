"""Counts of the results of a cleaning, with examples."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from headrace_workers.features.datasets.clean import Kept, Removed, Rule

_EXAMPLES: Final = 3  # of each rule
_SHOWN: Final = 80  # characters of a text


class Tally:
    """Counts by rule, and the first few of each."""

    def __init__(self) -> None:
        self.kept = 0
        self._removed: dict[Rule, int] = defaultdict(int)
        self._examples: dict[Rule, list[Removed]] = defaultdict(list)

    @property
    def read(self) -> int:
        """All lines with something in them."""
        return self.kept + sum(self._removed.values())

    def add(self, each: Kept | Removed) -> None:
        """Count one."""
        if isinstance(each, Kept):
            self.kept += 1
            return
        self._removed[each.rule] += 1
        if len(self._examples[each.rule]) < _EXAMPLES:
            text = " ".join(each.text[: 2 * _SHOWN].split())[:_SHOWN]
            self._examples[each.rule].append(Removed(each.number, each.rule, each.reason, text))

    def counts(self) -> list[tuple[str, int]]:
        """Return the number of records that each rule removed, without rules that removed none."""
        return [(str(rule), self._removed[rule]) for rule in Rule if self._removed[rule]]

    def shown(self) -> Iterator[tuple[str, Removed]]:
        """Yield the examples of each rule, in the rules' order. Texts that moderation refused are not shown."""
        for rule in Rule:
            for each in self._examples[rule]:
                hidden = rule is Rule.MODERATION
                yield str(rule), Removed(each.number, rule, each.reason, "") if hidden else each

    def document(self) -> dict[str, Any]:
        """Return the tally as JSON."""
        examples = [
            {"rule": rule, "line": each.number, "reason": each.reason, "begins": each.text}
            for rule, each in self.shown()
        ]
        return {"read": self.read, "kept": self.kept, "removed": dict(self.counts()), "examples": examples}
