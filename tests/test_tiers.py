"""The tier of a test follows from what it asks for, and unit tests are kept to theirs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests import tiers

CONFTEST = """
import pytest
from tests.tiers import (
    TIERS, FilesAndGroups, Guard, arrange, end_shared, has_no_unit_test, is_last_of_group, mark,
)

def pytest_configure(config):
    config.pluginmanager.register(Guard())

def pytest_ignore_collect(collection_path, config):
    return config.option.markexpr == "unit" and collection_path.suffix == ".py" and has_no_unit_test(collection_path)

@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    mark(items)
    yield
    arrange(items)
    if items and items[0].config.option.collectonly:
        for item in items:
            print(item.name, "is", *(tier for tier in TIERS if item.get_closest_marker(tier)))

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    yield
    if is_last_of_group(item, nextitem):
        end_shared(item)

def pytest_xdist_make_scheduler(config, log):
    return FilesAndGroups(config, log)

@pytest.fixture(scope="session")
def apache_kafka(service_folder):
    yield "kafka"
    print("Kafka ends")

@pytest.fixture(scope="session")
def service_folder():
    return "folder"

@pytest.fixture
def flow():
    return "flow"
"""

TESTS = {
    "test_plain.py": "def test_plain(tmp_path): pass",
    "test_service.py": "def test_service(apache_kafka): pass",
    "test_parameters.py": """
import pytest
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_database(database): pass
""",
    "test_pipeline.py": "def test_pipeline(flow): pass",
    "test_starts.py": "import subprocess\ndef test_starts(): pass",
    "test_marked.py": "import pytest\n@pytest.mark.integration\ndef test_marked(): pass",
    "test_slow.py": "import pytest\n@pytest.mark.slow\ndef test_slow(): pass",
    "acceptance/test_stack.py": "def test_stack(): pass",
    "chaos/test_kills.py": "def test_kills(): pass",
}

WRONG = """
import asyncio, os, threading, time

def test_it_connects():
    from socket import create_connection
    create_connection(("127.0.0.1", 9))

def test_it_starts_a_process_and_passes_over_the_refusal():
    try:
        os.system("true")
    except RuntimeError:
        pass

def test_a_thread_of_its_own_looks_up_a_name():
    from socket import getaddrinfo
    thread = threading.Thread(target=getaddrinfo, args=("localhost", 9))
    thread.start()
    thread.join()

def test_an_event_loop_is_no_socket():
    asyncio.run(asyncio.sleep(0))
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest over files in a folder with the tiers; returns what it prints."""

    def run(files, *arguments):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        markers = "[pytest]\nmarkers =\n    unit\n    integration\n    acceptance\n    chaos\n    slow\n    luck\n"
        (tmp_path / "pytest.ini").write_text(markers)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist", "--rootdir", tmp_path, "-c"]
        argv += [tmp_path / "pytest.ini", tmp_path, *arguments]
        env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # to load all plugins takes longer than such a run
        root = Path(__file__).parents[1]
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=root, env=env).stdout

    return run


def test_a_tier_is_derived(run):
    found = run(TESTS, "--collect-only", "-m", "unit or integration or acceptance or chaos").splitlines()
    tiers_of = {tuple(line.split(" is ")) for line in found if " is " in line}
    assert tiers_of == {
        ("test_plain", "unit"),
        ("test_database[sqlite]", "unit"),
        ("test_service", "integration"),
        ("test_database[postgresql]", "integration"),
        ("test_pipeline", "integration"),
        ("test_starts", "integration"),
        ("test_marked", "integration"),
        ("test_slow", "integration"),
        ("test_stack", "acceptance"),
        ("test_kills", "chaos"),
    }


def test_long_tiers_begin_first_and_files_of_a_service_go_to_one_process(run):
    asks = {f"test_service_{number}.py": "def test_service(apache_kafka): pass" for number in range(6)}
    found = run(TESTS | asks, "--verbose", "--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    done = re.findall(r"\[(gw\d)\] .* PASSED (\S+)::", found)
    assert len(done) == 16
    assert len({process for process, file in done if "test_service" in file}) == 1
    alone = re.findall(r"(\S+)::\S+ PASSED", run(TESTS | asks, "--verbose"))
    others = [Path(file).name for file in alone if "test_service" not in file]
    assert others[:2] == ["test_kills.py", "test_stack.py"]


def test_what_a_group_of_files_shares_ends_with_its_last_test(run):
    asks = {
        f"test_service_{number}.py": "def test_service(apache_kafka): print('Kafka is asked')" for number in range(2)
    }
    found = run(asks | {"test_plain.py": "def test_plain(): print('nobody asks')"}, "-s")
    assert re.findall("Kafka is asked|Kafka ends|nobody asks", found) == [
        "Kafka is asked",
        "Kafka is asked",
        "Kafka ends",
        "nobody asks",
    ]


def test_each_slow_test_that_shares_nothing_goes_to_whichever_process_is_free(run):
    """The tests of a file stay together only for a fixture of theirs; those that are slow by themselves go first."""
    slow = "import pytest\npytestmark = pytest.mark.slow\n"
    shared = "@pytest.fixture(scope='module')\ndef shared(): pass\ndef test_a(shared): pass\ndef test_b(shared): pass"
    files = {
        "test_a_parameter.py": """
import pytest
@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_size(size): pass
""",
        "test_alone.py": slow + "\n".join(f"def test_{number}(): pass" for number in range(8)),
        "test_shared.py": slow + shared,
    }
    arguments = ["-m", "slow", "--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    found = run(files, "--verbose", *arguments)
    done = re.findall(r"\[(gw\d)\] .* PASSED (\S+)::(\S+)", found)
    assert len(done) == 11
    assert len({process for process, file, _ in done if "alone" in file}) == 2
    assert len({process for process, file, _ in done if "shared" in file}) == 1
    assert [test for _, _, test in done].index("test_size[2]") > 6


def test_a_wrong_unit_test_fails_with_what_to_do(run):
    found = run({"test_wrong.py": WRONG})
    assert "3 failed, 1 passed" in found
    assert found.count("ask for a fixture of a service, or mark it `integration`") >= 3
    assert "test_it_connects is a unit test and looks up a name (socket.getaddrinfo" in found
    assert "passes_over_the_refusal is a unit test and starts a process (os.system" in found


def test_a_run_of_unit_tests_imports_no_module_without_any(run):
    broken = "{}\nraise SystemExit('imported')"
    others = {
        "test_starts.py": broken.format("import os, subprocess"),
        "test_takes.py": broken.format("from subprocess import PIPE"),
        "test_marked.py": broken.format("import pytest\npytestmark = pytest.mark.integration"),
        "acceptance/test_stack.py": broken.format(""),
        "test_late.py": "def test_late():\n    import subprocess",
    }
    assert "1 passed" in run(others, "-m", "unit")
    assert "imported" in run(others)


def test_modules_that_mark_nothing_as_slow_are_told_by_what_they_import(tmp_path, monkeypatch):
    """A module has a slow test where it, a conftest above it or a module that these import says `mark.slow`."""
    monkeypatch.setattr(tiers, "_ROOT", tmp_path)
    texts = {
        "tests/conftest.py": "from tests.plain import x",
        "tests/plain.py": "from tests.middle import x",
        "tests/middle.py": "from tests.plain import x",
        "tests/ledgers.py": "PARAMS = [pytest.param(1, marks=pytest.mark.slow)]",
        "tests/by/conftest.py": "from tests.ledgers import PARAMS",
        "tests/by/test_conftest.py": "",
        "tests/test_imports.py": "from tests.middle import x\nfrom tests.ledgers import PARAMS",
        "tests/test_packages.py": "from tests import middle, ledgers",
        "tests/test_marks.py": "@pytest.mark.slow\ndef test(): pass",
        "tests/test_plain.py": "from tests.plain import slow",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    stems = {Path(name).stem for name in texts if "test_" in name and tiers.has_no_slow_test(tmp_path / name)}
    assert stems == {"test_plain"}
