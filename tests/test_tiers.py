"""The tier of a test follows from what it asks for, and unit tests are kept to theirs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest
from tests.tiers import FilesAndGroups, Guard, arrange, has_no_unit_test

def pytest_configure(config):
    config.pluginmanager.register(Guard())

def pytest_ignore_collect(collection_path, config):
    return config.option.markexpr == "unit" and collection_path.suffix == ".py" and has_no_unit_test(collection_path)

def pytest_collection_modifyitems(items):
    arrange(items)

def pytest_xdist_make_scheduler(config, log):
    return FilesAndGroups(config, log)

@pytest.fixture(scope="session")
def apache_kafka(service_folder):
    return "kafka"

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
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c"]
        argv += [tmp_path / "pytest.ini", tmp_path, *arguments]
        root = Path(__file__).parents[1]
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=root).stdout

    return run


@pytest.mark.parametrize(
    ("tier", "tests"),
    [
        ("unit", {"test_plain", "test_database[sqlite]"}),
        (
            "integration",
            {
                "test_service",
                "test_database[postgresql]",
                "test_pipeline",
                "test_starts",
                "test_marked",
                "test_slow",
            },
        ),
        ("acceptance", {"test_stack"}),
        ("chaos", {"test_kills"}),
    ],
)
def test_a_tier_is_derived(run, tier, tests):
    """From fixtures, parameters, imports, markers and folders; each test is in one tier."""
    found = run(TESTS, "--collect-only", "-q", "-m", tier).splitlines()
    assert {line.partition("::")[2] for line in found if "::" in line} == tests


def test_long_tiers_begin_first_and_files_of_a_service_go_to_one_process(run):
    """Two processes share the files out: all that ask for Apache Kafka are done by one of them, and first."""
    asks = {f"test_service_{number}.py": "def test_service(apache_kafka): pass" for number in range(6)}
    found = run(TESTS | asks, "--verbose", "--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    done = re.findall(r"\[(gw\d)\] .* PASSED (\S+)::", found)
    assert len(done) == 16
    assert len({process for process, file in done if "test_service" in file}) == 1
    (other,) = {process for process, _ in done} - {process for process, file in done if "test_service" in file}
    theirs = [Path(file).name for process, file in done if process == other]
    assert theirs[:2] == ["test_kills.py", "test_stack.py"]


def test_a_wrong_unit_test_fails_with_what_to_do(run):
    """Also one whose code passes over the refusal, and one that does it in a thread."""
    found = run({"test_wrong.py": WRONG})
    assert "3 failed, 1 passed" in found
    assert found.count("ask for a fixture of a service, or mark it `integration`") >= 3
    assert "test_it_connects is a unit test and looks up a name (socket.getaddrinfo" in found
    assert "passes_over_the_refusal is a unit test and starts a process (os.system" in found


def test_a_run_of_unit_tests_imports_no_module_without_any(run):
    """A module that starts processes, or whose marker is another tier's, is not read by `-m unit`."""
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
