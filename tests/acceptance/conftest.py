"""headrace as a user runs it: commands in a folder of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.services import warm
from tests.services.eventually import eventually
from tests.services.interrupts import hear_interrupts
from tests.services.models import smollm2

from headrace_workers.runtime.embedded.broker import tansu_binary
from headrace_workers.testing import make_echo_model

# Of the caller's environment.
_NOT_TOLD = ("HEADRACE_", "KAFKA_HOME") if tansu_binary() else ("HEADRACE_",)


@dataclass
class Shell:
    """Runs `headrace …` in one folder, with an environment that holds nothing of the caller's settings.

    `program`: it is started as a user's shell starts it. Else what it loads has been loaded before, by the process that
    forks `at` this address. A stack has the
    broker that comes as a wheel, unless `env` says where Apache Kafka is, whose start costs as much as all else.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    program: bool = False
    at: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command gets."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_TOLD)}
        return kept | self.env

    def run(self, *arguments: str, code: int = 0, timeout: float = 600, stdin: str | None = None) -> str:
        """Run a command to its end; its standard output. The exit code must be the one given."""
        return self.call(*arguments, code=code, timeout=timeout, stdin=stdin).stdout

    def words(self, *arguments: str, code: int, timeout: float = 600) -> str:
        """Run a command to its end; what it says on standard error. A traceback says nothing to anybody."""
        told = self.call(*arguments, code=code, timeout=timeout).stderr
        assert "Traceback" not in told, told
        return told

    def call(
        self, *arguments: str, code: int | tuple[int, ...], timeout: float = 600, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end. The exit code must be one of those given."""
        argv = self.argv(*arguments)
        if self.program or not warm.can_be_forked(argv):
            done = subprocess.run(
                argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout,
                check=False, input=stdin,
            )  # fmt: skip
        else:
            done = warm.run(argv, cwd=self.folder, env=self.environment, timeout=timeout, given=stdin, at=self.at)
        codes = (code,) if isinstance(code, int) else code
        assert done.returncode in codes, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a line of bash."""
        return subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    def start(self, *arguments: str) -> "subprocess.Popen[bytes] | warm.Forked":
        """Start a command; its output goes to `<first argument>.log`."""
        argv, file = self.argv(*arguments), self.folder / f"{arguments[0]}.log"
        if not self.program and warm.can_be_forked(argv):
            return warm.Forked(argv[2:], file, self.environment, cwd=self.folder, at=self.at)
        with file.open("ab") as log:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=hear_interrupts,  # noqa: PLW1509 - it takes no lock
            )

    @staticmethod
    def argv(*arguments: str) -> list[str]:
        """The whole argument list."""
        return [sys.executable, "-m", "headrace_workers", *arguments]


def end(process: "subprocess.Popen[bytes] | warm.Forked", number: int = signal.SIGTERM, timeout: float = 300) -> int:
    """Signal a process and wait; its exit code."""
    process.send_signal(number)
    return process.wait(timeout)


def lines(text: str) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


# Where a stack's log is to outlive its broker, if Apache Kafka is here.
WITH_A_LOG = {name: os.environ[name] for name in ("KAFKA_HOME",) if name in os.environ}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with the echo model, and no stack. The work of one that is killed is soon taken up again."""
    make_echo_model(tmp_path / ".headrace")
    return Shell(tmp_path, {"HEADRACE_MODEL": "echo", "HEADRACE_LEASE": "5"})


@contextmanager
def running(folder: Path, *options: str, program: bool = False, at: str | None = None, **env: str) -> Iterator[Shell]:
    """A `headrace up` with the echo model in this folder, ready; stopped at the end. `program`: as a user starts it."""
    make_echo_model(folder / ".headrace")
    shell = Shell(folder, {"HEADRACE_MODEL": "echo", **env}, program, at)
    process = shell.start("up", *options)
    shell.program = False
    try:
        eventually(lambda: "Ctrl-C stops" in (folder / "up.log").read_text() or process.poll() is not None, 600)
        assert process.poll() is None, (folder / "up.log").read_text()
        yield shell
    finally:
        if process.poll() is None:
            assert end(process) in (0, 143)
    assert not (folder / ".headrace" / "run.json").exists()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running `headrace up` with the echo model, for a module's tests to share."""
    with running(tmp_path_factory.mktemp("stack")) as shell:
        yield shell


@pytest.fixture
def smollm2_home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of one's own with SmolLM2 in int8."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(smollm2("int8", tmp_path_factory) / "models")
    return home
