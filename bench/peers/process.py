"""Running a peer as a process of its own, with an answer in JSON."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def command(module: str, *arguments: str) -> list[str]:
    """The command line that calls `main(arguments)` of a module of this package."""
    # Imported, not run with -m: task queues name a task after its module, which must not be `__main__`.
    return [sys.executable, "-c", f"import sys; from bench.peers.{module} import main; main(sys.argv[1:])", *arguments]


def ask(argv: list[str], env: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Run it to its end, and read what it printed. CalledProcessError when it fails; its stderr is ours."""
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, check=True, timeout=seconds)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
