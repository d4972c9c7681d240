"""A run in several processes tells what a run in one tells."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFTEST = """
import pytest
from tests.costs import Costs
from tests.forked import Forks

def pytest_configure(config):
    config.pluginmanager.register(Forks(2, Costs(), lambda items: [items[:3], *([item] for item in items[3:])]))

@pytest.fixture(scope="session")
def service():
    yield
    raise ValueError("not stopped")
"""
TESTS = """
import os, time, warnings
import pytest

def test_before(): pass
def test_that_ends_its_process(): os._exit(7)
def test_behind_it(): pass
def test_that_says_something():
    print("said")
    warnings.warn("warned")
    assert False
@pytest.mark.parametrize("number", range(20))
def test_that_says_other_things(number): print(f"other {number}")
"""

Run = Callable[..., tuple[str, int]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest over this text; return what it prints and its exit code."""

    def run(text: str, *arguments: str) -> tuple[str, int]:
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "pytest.ini").write_text("[pytest]")
        (tmp_path / "test_it.py").write_text(text)
        options = ["-p", "no:cacheprovider", "-c", tmp_path / "pytest.ini", tmp_path, *arguments]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options], capture_output=True, text=True, check=False, cwd=ROOT
        )
        return done.stdout, done.returncode

    return run


def test_each_test_is_reported_with_what_it_said_and_a_process_that_ends_fails_its_test_alone(run: Run) -> None:
    told, code = run(TESTS)
    assert code == 1
    assert "the process of this test ended: exit code 7" in told
    assert "1 failed, 22 passed, 1 warning, 1 error" in told
    assert "UserWarning: UserWarning: warned" in told
    assert "said" in told
    assert "other 7" not in told


def test_a_service_that_fails_to_end_is_an_error(run: Run) -> None:
    told, code = run("def test_it(service): pass")
    assert code == 1
    assert "ValueError: not stopped" in told


def test_the_first_failure_ends_all_processes_where_that_is_asked_for(run: Run) -> None:
    told, code = run(
        "import time\ndef test_fails(): assert False\n"
        + "def test_x(): pass\n" * 2
        + "def test_waits(): time.sleep(600)",
        "-x",
    )
    assert code == 1
    assert "1 failed" in told
    assert "stopping after 1 failures" in told
