"""The tier of each test, derived from what it asks for; and the guard of the first tier.

- unit: this process alone. No service, socket or process, and at most a second.
- integration: a service, a model or the whole pipeline, which a fixture or a parameter names; or a module of tests that
  imports at its top what starts processes or opens sockets; or, by the marker `integration`, what takes more than a
  second in all its cases, such as a simulation.
- acceptance, chaos: the folder, or the marker, of that name.

A tier is a marker of the test: `pytest -m unit` selects it. Such a run does not import modules without unit tests.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

TIERS: Final = ("chaos", "acceptance", "integration", "unit")  # a run begins with those that wait longest

# Each fixture of a service asks for `service_folder`, where its data lies, or is one of these.
_SERVICES: Final = frozenset(
    {"service_folder", "durable_broker", "broker", "broker_behind", "kafka", "node", "python_clients", "s3"}
)
# Models are converted once in each process that asks for one, which takes seconds.
_MODELS: Final = frozenset({"tiny_home", "smollm2_gguf", "minilm_wheel", "embedder_home"})
# The whole pipeline over a ledger, from admission to the end.
_PIPELINES: Final = frozenset({"flow"})
_ASKED_FOR: Final = _SERVICES | _MODELS | _PIPELINES
# A parameter that says which service a fixture is to ask for.
_PARAMETERS: Final = frozenset({"postgresql", "postgres", "apache_kafka", "embedded_kafka", "s3"})
# Modules that start processes or open sockets, and those of the tests that do.
_STARTERS: Final = frozenset({
    "http.server", "moto.server", "multiprocessing", "socket", "socketserver", "subprocess", "uvicorn",
    "tests.services.provider", "tests.services.proxy", "tests.services.server", "tests.services.warm",
    "tests.workers.http.served", "tests.workers.features.webhooks.receiver",
})  # fmt: skip
_IMPORTS: Final = re.compile(
    r"^(?:from (?:{0}) import |import (?:.*[ ,])?(?:{0})\b)".format("|".join(map(re.escape, sorted(_STARTERS)))), re.M
)
_LONG: Final = frozenset({"slow", "luck"})
_NO_UNITS: Final = re.compile(r"^pytestmark\b.*\b(?:integration|acceptance|chaos|slow|luck)\b", re.M)
_SLOW: Final = re.compile(r"\bmark\.slow\b")
_OF_TESTS: Final = re.compile(r"^ *(?:from|import) (tests(?:\.\w+)*)(?: import \(?(.*))?", re.M)
_ROOT: Final = Path(__file__).parents[1]

# What a test is expected to take at least, for the order of tests alone: seconds by its tier, and of a slow test by
# where it is marked. A parameter such as `postgresql` marks what is one of very many.
_SECONDS: Final = {"chaos": 20.0, "acceptance": 10.0, "integration": 0.3, "unit": 0.02}
_SLOW_SECONDS, _SLOW_PARAMETER_SECONDS = 10.0, 0.6

# Fixtures of a whole session that are dear to start, and cost while nobody asks for them: one process has each.
_SHARED: Final = ("apache_kafka", "deployment")

_REFUSED: Final = {
    "os.exec": "becomes another program",
    "os.fork": "forks",
    "os.posix_spawn": "starts a process",
    "os.system": "starts a process",
    "socket.bind": "opens a socket",
    "socket.connect": "opens a socket",
    "socket.getaddrinfo": "looks up a name",
    "subprocess.Popen": "starts a process",
}
_IPV6_PROBE: Final = ("::1", 0)  # urllib3 binds this when it is imported, to see whether the machine has IPv6


def tier_of(item: pytest.Item) -> str:
    marks = {mark.name for mark in item.iter_markers()}
    for tier in TIERS:
        if tier in marks or tier in item.path.parts:
            return tier
    asks = _asked_for(item)
    if asks & _ASKED_FOR or asks & _PARAMETERS or marks & _LONG:
        return "integration"
    return "integration" if _starts_something(item.path) else "unit"


def has_no_unit_test(file: Path) -> bool:
    """Return True if a module's text or folder says that none of its tests is a unit test."""
    if "acceptance" in file.parts or "chaos" in file.parts:
        return True
    return _starts_something(file) or bool(_NO_UNITS.search(file.read_text(encoding="utf-8")))


def has_no_slow_test(file: Path) -> bool:
    """Return True if a module, the conftests above it and what they import of the tests mark nothing as slow."""
    paths, left = set(), [file, *(folder / "conftest.py" for folder in file.parents if folder != _ROOT)]
    while left:
        if (each := left.pop()) not in paths and each.is_file():
            paths.add(each)
            left += _imported_tests(each)
    return not any(_marks_slow(path) for path in paths)


def group_of(items: Iterable[pytest.Item]) -> str | None:
    """Return the name of the group of files that one process of a parallel run has; None for a file on its own.

    `items` are the tests of one file, which have their tiers.
    """
    tests = list(items)
    text = next((name for name in _SHARED if any(_shares(item, name) for item in tests)), None)
    return "chaos" if text and any(item.get_closest_marker("chaos") for item in tests) else text


_GROUP: Final = pytest.StashKey[str | None]()


def is_last_of_group(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Return True if a test is the last one of its group of files, or of all."""
    return following is None or item.stash[_GROUP] not in (None, following.stash[_GROUP])


def end_shared(item: pytest.Item) -> None:
    """End what groups of files share. An idle deployment takes a tenth of a core, to the end of the run."""
    for name in _SHARED:
        for definition in item._request._arg2fixturedefs.get(name, ()):  # type: ignore[attr-defined]
            definition.finish(item._request)  # type: ignore[attr-defined]


def mark(items: Iterable[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item))


def arrange(items: list[pytest.Item]) -> None:
    """Put the tests that are to run in order: groups of files first, then what takes longest.

    Long files at the end of a parallel run would leave all processes but one idle.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = {path: group_of(tests) for path, tests in files.items()}
    for item in items:
        item.stash[_GROUP] = groups[item.path]
    alone = {path for path, tests in files.items() if not groups[path] and _can_be_split(tests)}
    seconds = {path: sum(map(_seconds, tests)) for path, tests in files.items()}

    def place(item: pytest.Item) -> tuple[bool, str, float]:
        group = groups[item.path]
        expected = _seconds(item) if item.path in alone else seconds[item.path]
        return group is None, group or "", -expected

    items.sort(key=place)
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0":
        scopes = {
            item.nodeid.partition("::")[0]: groups[item.path]
            for item in items
            if groups[item.path] or item.path in alone
        }
        _scopes_file(os.environ["PYTEST_XDIST_TESTRUNUID"]).write_text(json.dumps(scopes), encoding="utf-8")


def _can_be_split(tests: list[pytest.Item]) -> bool:
    """Return True if the tests of a file are slow, and share no fixture but those of a whole session."""
    return all(item.get_closest_marker("slow") and not _shares_in_file(item) for item in tests)


def _shares_in_file(item: pytest.Item) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    used = (each for name in item.fixturenames for each in definitions.get(name, ())[-1:])  # type: ignore[attr-defined]
    return any(each.scope in ("class", "module", "package") for each in used)


def _seconds(item: pytest.Item) -> float:
    expected = max(seconds for tier, seconds in _SECONDS.items() if item.get_closest_marker(tier))
    if not item.get_closest_marker("slow"):
        return expected
    call = getattr(item, "callspec", None)
    by_parameter = call is not None and any(mark.name == "slow" for mark in call.marks)
    return max(expected, _SLOW_PARAMETER_SECONDS if by_parameter else _SLOW_SECONDS)


class FilesAndGroups(LoadFileScheduling):
    """A group of files goes to one process of a parallel run, and any other file to whichever is free.

    So does each test of a file whose tests share nothing. The process that shares files out collects none: it reads
    what the first of the others has noted: by file, its group, or None where each of its tests is on its own.
    """

    _scopes: dict[str, str | None] | None = None

    def schedule(self) -> None:
        """Share the files out, once all processes have collected them."""
        if self._scopes is None:
            file = _scopes_file(self.nodes[0].workerinput["testrunuid"])
            self._scopes = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            file.unlink(missing_ok=True)  # nothing was noted where a path of the command line is not there
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return (self._scopes or {}).get(file, file) or nodeid


def _scopes_file(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"headrace-scopes-{run}.json"


class Guard:
    """Refuses sockets and processes to unit tests, in a run of unit tests alone.

    In other runs, threads of services that serve other tests run beside a unit test.
    """

    def __init__(self) -> None:
        self._test: str | None = None
        self._found: list[str] = []
        self._alone = False
        sys.addaudithook(self._audit)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note whether all tests are unit tests."""
        self._alone = all(item.get_closest_marker("unit") for item in session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        with self.watching(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        with self.watching(item):
            return (yield)

    @contextmanager
    def watching(self, item: pytest.Item) -> Iterator[None]:
        """Refuse what a unit test may not do, and fail it afterwards where the code that it tests passed over that."""
        self._test = item.nodeid if self._alone else None
        self._found.clear()
        try:
            yield
        finally:
            self._test = None
        if self._found:
            pytest.fail(self._found[0], pytrace=False)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._test is None or event not in _REFUSED or (event == "socket.bind" and args[1] == _IPV6_PROBE):
            return
        what = " ".join(str(arg) for arg in args[1:] if isinstance(arg, str | tuple | list))
        reason = (
            f"{self._test} is a unit test and {_REFUSED[event]} ({event} {what[:80]}): "
            "ask for a fixture of a service, or mark it `integration`"
        )
        self._found.append(reason)
        raise RuntimeError(reason)


@cache
def _starts_something(file: Path) -> bool:
    """Return True if a module of tests imports one of `_STARTERS`, or something of it, for all of its tests."""
    return bool(_IMPORTS.search(file.read_text(encoding="utf-8")))


@cache
def _marks_slow(file: Path) -> bool:
    return bool(_SLOW.search(file.read_text(encoding="utf-8")))


@cache
def _imported_tests(file: Path) -> list[Path]:
    paths = []
    for module, names in _OF_TESTS.findall(file.read_text(encoding="utf-8")):
        path = _ROOT.joinpath(*module.split("."))
        paths += [path.with_suffix(".py"), *(path / f"{name}.py" for name in re.findall(r"\w+", names))]
    return paths


def _shares(item: pytest.Item, name: str) -> bool:
    """Return True if a test asks for this fixture of the session, by name or by a parameter."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name, ())  # type: ignore[attr-defined]
    return any(definition.scope == "session" for definition in definitions) or (name in _asked_for(item) & _PARAMETERS)


def _asked_for(item: pytest.Item) -> set[str]:
    """Return the names of the fixtures of a test, and the services that its parameters name."""
    call = getattr(item, "callspec", None)
    words = {
        part for value in (call.params.values() if call else ()) if isinstance(value, str) for part in value.split("-")
    }
    return {*getattr(item, "fixturenames", ()), *(words & _PARAMETERS)}
