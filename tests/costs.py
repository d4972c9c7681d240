"""The CPU seconds that each file of tests takes: a long run ends with the ten files that take most."""

import os
from collections import Counter
from collections.abc import Generator
from typing import Any, Final

import pytest
from tests.services.warm import CPU_SECONDS
from tests.tiers import is_last_of_group

COLLECTION: Final = "collection"
SERVICES: Final = "services"  # those that serve all tests of a process: they count when they have ended
_SHOWN: Final = 10
_KEY: Final = "cpu_seconds"


class Costs:
    """Counts what this process takes, with the children that it waited for and those that were forked for it
    (`tests.services.warm`), and adds up the processes of a parallel run.

    Not counted is what was killed with its parent: the processes of a `headrace up` that was forked.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.seconds: Counter[str] = Counter()
        self._config = config
        self._last = 0.0  # seconds of this process: what it took to start counts as collection

    def charge(self, name: str) -> None:
        """Charge the time since the last call to a file."""
        now = _used()
        self.seconds[name] += now - self._last
        self._last = now

    def told(self) -> list[str]:
        """Return the lines that a run ends with; none where there are few files."""
        files = Counter({name: seconds for name, seconds in self.seconds.items() if name not in (COLLECTION, SERVICES)})
        if len(files) <= _SHOWN:
            return []
        total = (
            f"{sum(self.seconds.values()):.0f} CPU seconds, {self.seconds[COLLECTION]:.0f} of them for collection, "
            f"{self.seconds[SERVICES]:.0f} for services"
        )
        return [total, *(f"{seconds:8.1f}  {name}" for name, seconds in files.most_common(_SHOWN))]

    def pytest_collection_finish(self) -> None:
        """Until here it was the collection, with all that it imports."""
        self.charge(COLLECTION)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        self.charge(item.nodeid.partition("::")[0])
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        last = is_last_of_group(item, nextitem)
        if last:
            self.charge(item.nodeid.partition("::")[0])
        result = yield
        if last:
            self.charge(SERVICES)
        return result

    def pytest_sessionfinish(self) -> None:
        """Hand the counts of a process of a parallel run to the one that reports."""
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[_KEY] = dict(self.seconds)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the counts of a process; one that was killed has none."""
        self.seconds.update(getattr(node, "workeroutput", {}).get(_KEY, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.told():
            terminalreporter.write_line(line)


def _used() -> float:
    return sum(os.times()[:4]) + sum(CPU_SECONDS)
