"""What happens where the output ends: a full disk, a size limit, a reader that has enough, no stream at all."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.slow import slow_after_first

from headrace_workers.testing import make_echo_model

# Each is a program that is started: click, rich and our own lines print by different ways.
PRINTS = [["models", "list"], ["--help"], ["schema", "export", "c"]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder where each of these commands has something to print."""
    make_echo_model(tmp_path / ".headrace")
    return tmp_path


def headrace(home: Path, *arguments: str, stdout: int, stderr: int = subprocess.PIPE, **more: object):
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    argv = [sys.executable, "-m", "headrace_workers", *arguments]
    return subprocess.run(argv, cwd=home, env=env, stdout=stdout, stderr=stderr, check=False, **more)


def last_line(stderr: bytes) -> str:
    """The word on what went wrong; a traceback has no place in it."""
    assert b"Traceback" not in stderr
    assert b"Exception ignored" not in stderr
    return stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("arguments", slow_after_first(PRINTS), ids=" ".join)
def test_a_full_disk_is_one_line_and_an_exit_code(home, arguments):
    with Path("/dev/full").open("wb") as full:
        done = headrace(home, *arguments, stdout=full.fileno())
    assert done.returncode == 1
    assert last_line(done.stderr) == "headrace: standard output cannot be written: No space left on device"


@pytest.mark.parametrize("arguments", slow_after_first(PRINTS), ids=" ".join)
def test_a_reader_that_has_enough_ends_it_quietly(home, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = headrace(home, *arguments, stdout=writer)
    os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
    assert b"cannot be written" not in done.stderr


def test_a_file_over_its_size_limit_is_one_line(home):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    with (home / "out").open("wb") as out:
        done = headrace(home, "run", "--help", stdout=out.fileno(), preexec_fn=limit)
    assert done.returncode == 1
    assert last_line(done.stderr) == "headrace: standard output cannot be written: File too large"


def test_without_a_standard_output_nothing_else_becomes_it(home):
    """`>&-`: the file that is opened first would be number 1, and be printed into."""
    done = headrace(home, "schema", "export", "c", stdout=subprocess.DEVNULL, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert last_line(done.stderr) == "headrace: standard output cannot be written: Bad file descriptor"


def test_words_that_nobody_hears_end_nothing(home):
    with Path("/dev/full").open("wb") as full:
        done = headrace(home, "schema", "export", "c", stdout=subprocess.PIPE, stderr=full.fileno())
    assert (done.returncode, b"c/asyncapi.json" in done.stdout) == (0, True)
    closed = {"stderr": subprocess.DEVNULL, "preexec_fn": lambda: os.close(2)}
    done = headrace(home, "schema", "export", "c", stdout=subprocess.PIPE, **closed)
    assert (done.returncode, b"c/asyncapi.json" in done.stdout) == (0, True)


def test_without_a_standard_input_it_is_empty(home):
    closed = {"stdin": subprocess.DEVNULL, "preexec_fn": lambda: os.close(0)}
    done = headrace(home, "submit", "-", stdout=subprocess.PIPE, **closed)
    assert (done.returncode, last_line(done.stderr)) == (0, "standard input: the file has no jobs")


def test_a_terminal_of_few_characters_is_no_obstacle(home):
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    text = "Größe 川".encode("unicode_escape").decode()
    code = f"from headrace_workers.cli import streams, output; streams.guard(); output.put('{text}'); streams.finish()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"Gr\\xf6\\xdfe \\u5ddd\n")
