"""A run of the tests in several processes, with `--processes N`: one collects them, and forks the others.

Each process would need as long for its own collection as for a hundred tests; forked, it has all that was imported.
"""

import os
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from tests.costs import SERVICES, Costs

RUN: Final = "TESTS_RUN"  # of the environment of each process that was forked: a name that all of a run share


@dataclass
class _Process:
    """One of the processes: what it has still to do of what it was given, and which test it is at."""

    pid: int
    name: str
    connection: Connection
    left: deque[int] = field(default_factory=deque)


class Forks:
    """Shares groups of tests out among processes, and reports what these report."""

    def __init__(self, count: int, costs: Costs, groups: Any) -> None:
        """`groups` makes lists of tests that belong to one process from all tests, in order."""
        self._count, self._costs, self._groups = count, costs, groups
        self._processes: dict[Connection, _Process] = {}
        self._left: deque[list[int]] = deque()

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the tests, unless they could not be collected, or need not be run: pytest itself says so."""
        if not self._count or session.testsfailed or session.config.option.collectonly:
            return None
        numbers = {item: number for number, item in enumerate(session.items)}
        self._left.extend([numbers[item] for item in group] for group in self._groups(session.items))
        base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        try:
            for number in range(min(self._count, len(self._left))):
                self._fork(session, f"p{number}", base)
            while self._processes:
                for connection in wait(list(self._processes)):
                    self._hear(session, connection, base)  # type: ignore[arg-type]
        finally:
            self._interrupt()
            for process in list(self._processes.values()):
                self._ended(process)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        return True

    def _fork(self, session: pytest.Session, name: str, base: Path) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():
            # NumPy's threads, which no other thread waits for and which it ends itself before a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            for connection in (ours, *self._processes):
                connection.close()
            code = 1
            try:
                _begin(session.config, name, base)
                self._costs.begin()
                _Worker(session, theirs, self._costs).work()
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        self._processes[ours] = _Process(pid, name, ours)

    def _hear(self, session: pytest.Session, connection: Connection, base: Path) -> None:
        process, hook = self._processes[connection], session.config.hook
        try:
            what, value = connection.recv()
        except (EOFError, ConnectionError):
            self._lost(session, process, base)
            return
        if what == "next":
            group = self._left.popleft() if self._left and not session.shouldfail else []
            process.left.extend(group)
            connection.send(group)
        elif what == "report":
            report = hook.pytest_report_from_serializable(config=session.config, data=value)
            self._report(session, process, report)
        elif what == "warning":
            hook.pytest_warning_recorded.call_historic(kwargs=value)
        elif what == "costs":
            self._costs.seconds.update(value)
        else:  # its last word
            self._ended(process)
            if value:
                self._fail(session, session.items[0], value)

    def _ended(self, process: _Process) -> int:
        """Let go of a process that ends; return its exit code."""
        del self._processes[process.connection]
        process.connection.close()
        return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])

    def _report(self, session: pytest.Session, process: _Process, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            process.left.popleft()
        # As pytest-xdist has it, for which pytest has a way to print what comes of several processes.
        node = SimpleNamespace(gateway=SimpleNamespace(id=process.name), _workerinfocache="")
        report.node = node  # type: ignore[attr-defined]
        session.config.hook.pytest_runtest_logreport(report=report)
        if session.shouldfail:
            self._interrupt()

    def _lost(self, session: pytest.Session, process: _Process, base: Path) -> None:
        """Report the test that ended its process as failed, and have another process go on."""
        code = self._ended(process)
        if session.shouldfail:
            return
        number = process.left.popleft() if process.left else 0
        self._fail(session, session.items[number], f"the process of this test ended: exit code {code}")
        if process.left:
            self._left.appendleft(list(process.left))
        if self._left:
            self._fork(session, process.name, base)

    def _fail(self, session: pytest.Session, item: pytest.Item, reason: str) -> None:
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "teardown")
        session.config.hook.pytest_runtest_logreport(report=report)

    def _interrupt(self) -> None:
        """Have all processes end their services and themselves."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)


class _Worker:
    """What a forked process does."""

    def __init__(self, session: pytest.Session, connection: Connection, costs: Costs) -> None:
        self._session, self._connection, self._costs = session, connection, costs
        session.config.pluginmanager.register(self)

    def work(self) -> None:
        """Run the tests that are given to this process."""
        trouble = None
        try:
            for item, following in self._given():
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except KeyboardInterrupt:
            pass
        finally:
            try:
                self._session._setupstate.teardown_exact(None)
            except Exception:
                trouble = traceback.format_exc()
            self._costs.charge(SERVICES)
            self._send("costs", self._costs.seconds)
            self._send("end", trouble)

    def _given(self) -> Iterator[tuple[pytest.Item, Any]]:
        """Yield tests with what follows: behind the last of a group the session, whose fixtures stay."""
        while group := self._asked():
            items = [self._session.items[number] for number in group]
            yield from zip(items, [*items[1:], self._session], strict=True)

    def _asked(self) -> list[int]:
        self._send("next", None)
        group: list[int] = self._connection.recv()
        return group

    def _send(self, what: str, value: object) -> None:
        self._connection.send((what, value))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand a report on."""
        config = self._session.config
        self._send("report", config.hook.pytest_report_to_serializable(config=config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        """Hand a warning on, as text: what it was made with may be anything."""
        said = f"{warning_message.category.__name__}: {warning_message.message}"
        plain = warnings.WarningMessage(said, UserWarning, warning_message.filename, warning_message.lineno)
        self._send("warning", {"warning_message": plain, "when": when, "nodeid": nodeid, "location": location})


def _begin(config: pytest.Config, name: str, base: Path) -> None:
    """Leave to the process that has forked this one what is its own: what is printed, and what is kept of a run."""
    os.environ[RUN] = f"{os.getppid()}"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would these
    plugins = config.pluginmanager
    for other in ("terminalreporter", "lfplugin", "nfplugin", "stepwiseplugin"):
        if plugins.has_plugin(other):
            plugins.unregister(name=other)
    capture: Any = plugins.get_plugin("capturemanager")
    capture.stop_global_capturing()  # its files have one position for all
    capture.start_global_capturing()
    capture.suspend()
    folder = base / name
    folder.mkdir(exist_ok=True)
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
