"""Trying the mutants of SQL: each in a copy of the packages, with the tests of the ledger, its module's first."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.sql import Change, changes

_PACKAGE = Path("headrace_workers")
_STORES = ("core/ledger", "core/sql", "features/*/store")  # where statements are made
_TESTS = Path("tests/workers/core/ledger")
# These make no statements: how connections are made, and the ledger's facade.
_LEFT_OUT = frozenset({"core/ledger/ledger.py", "core/sql/database.py", "core/sql/patience.py"})


def modules(package: Path) -> list[Path]:
    """Return the files that make statements, relative to the package's folder."""
    generator = (path for store in _STORES for path in package.glob(f"{store}/*.py"))
    below = sorted(path.relative_to(package) for path in generator if path.name != "__init__.py")
    return [path for path in below if path.as_posix() not in _LEFT_OUT]


_FLAGS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_rerunfailures", "--reruns", "1", "-p", "pytest_timeout")
_SECONDS = 900.0  # beyond that the tests hang: the slowest machine needs a third of it for all
_VERDICTS = {0: "survived", 1: "killed", 2: "killed"}  # 2: the module cannot even be imported


def nearest(tests: Path, module: Path) -> list[str]:
    """The test files that are named after a module, or import it: mostly they notice, and the others need not run."""
    imports = re.compile(rf"\b{module.parent.name}(\.| import .*\b){module.stem}\b")
    return [
        file.name
        for file in sorted(tests.glob("test_*.py"))
        if file.stem == f"test_{module.stem}" or imports.search(file.read_text(encoding="utf-8"))
    ]


class Statements:
    """All of a tree, which `tree.make_tree` has made."""

    def __init__(self, folder: Path, processes: int) -> None:
        self._folder = folder
        self._copies: SimpleQueue[Path] = SimpleQueue()
        self._processes = processes
        self._changes: dict[str, Change] = {}

    def make(self) -> list[str]:
        """Find them; their names, which say module and number."""
        package = self._folder / "src" / _PACKAGE
        for below in modules(package):
            module = ".".join((*_PACKAGE.parts, *below.with_suffix("").parts))
            self._changes |= {f"{module}.sql_{number}": found for number, found in enumerate(changes(package / below))}
        return sorted(self._changes)

    def run(self, names: Sequence[str]) -> dict[str, str]:
        """Try these; what became of each: killed, timeout, survived, or what else went wrong."""
        for number in range(self._processes):
            self._copies.put(shutil.copytree(self._folder / "src", self._folder / f"sql{number}"))
        said, lock, verdicts = len(names) // 4 or 1, threading.Lock(), {}

        def note(name: str) -> None:
            verdict = self._try(self._changes[name])
            with lock:
                verdicts[name] = verdict
                if len(verdicts) % said == 0:
                    print(f"{len(verdicts)} of {len(names)} of SQL tried", flush=True)

        with ThreadPoolExecutor(self._processes) as threads:
            list(threads.map(note, names))
        return verdicts

    def difference(self, name: str) -> str:
        return self._changes[name].difference()

    def __contains__(self, name: object) -> bool:
        return name in self._changes

    def _try(self, change: Change) -> str:
        source = self._copies.get()
        path = source / change.path.relative_to(self._folder / "src")
        try:
            path.write_text(change.source(), encoding="utf-8")
            return self._verdict(source, change.path)
        finally:
            shutil.copyfile(change.path, path)
            self._copies.put(source)

    def _verdict(self, source: Path, module: Path) -> str:
        """The tests of its module on both databases; what these miss, all others on SQLite: they are many, and would
        take four minutes each time.
        """
        first = [str(_TESTS / name) for name in nearest(self._folder / _TESTS, module)]
        verdict = self._tested(source, first) if first else "survived"
        return verdict if verdict != "survived" else self._tested(source, [str(_TESTS), "-k", "not postgresql"])

    def _tested(self, source: Path, tests: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-m", "pytest", *_FLAGS, *tests],
                cwd=self._folder,
                # Processes that tests start take the changed code, too; none leaves compiled code to the next. Plugins
                # that nothing here needs would cost more than most of the tests.
                env={
                    **os.environ,
                    "PYTHONPATH": str(source),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "timeout"
        return _VERDICTS.get(done.returncode, f"suspicious ({done.returncode})")
