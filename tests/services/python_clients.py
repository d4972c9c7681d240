"""Python clients of OpenAI's API, in an environment of their own: they need other versions of libraries."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = Path(__file__).parents[1] / "clients" / "requirements.txt"


@dataclass(frozen=True)
class PythonClients:
    """A virtual environment with the packages of tests/clients/requirements.txt, in which scripts run."""

    python: Path

    def run(self, script: str, *, env: Mapping[str, str], timeout: float = 240) -> str:
        """Run a script to its end, and return what it printed. It must end well."""
        done = subprocess.run(
            [self.python, "-I", "-c", script], env={**os.environ, **env}, timeout=timeout, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def find_python_clients(cache: Path) -> PythonClients | str:
    """Return the environment under `cache`, installed once for all runs, or why there is none."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(_PACKAGES.read_bytes() + version.encode()).hexdigest()[:16]
    folder = cache / digest
    folder.mkdir(parents=True, exist_ok=True)
    clients = PythonClients(folder / "venv" / "bin" / "python")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            # Nothing is compiled but what a script imports, and the environment needs no pip of its own.
            make = [sys.executable, "-m", "venv", "--clear", "--without-pip", folder / "venv"]
            install = [sys.executable, "-m", "pip", "--python", clients.python, "install", "--quiet", "--no-deps"]
            for command in (make, [*install, "--no-compile", "--retries=1", "-r", _PACKAGES]):
                try:
                    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
                except subprocess.TimeoutExpired:
                    return "the package index does not answer"
                if done.returncode:
                    return f"pip cannot install {_PACKAGES.name}: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
            (folder / "installed").touch()
    return clients
