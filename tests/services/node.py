"""Node.js with the packages of tests/clients/package.json, for clients in JavaScript."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = Path(__file__).parents[1] / "clients" / "package.json"


@dataclass(frozen=True)
class Node:
    """A folder with installed packages, in which scripts run."""

    folder: Path

    def run(self, script: str, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """Run a module's text to its end; what it printed. It must end well."""
        digest = hashlib.sha256(script.encode()).hexdigest()[:16]
        file = self.folder / f"{digest}.mjs"  # in the folder: imports are looked up from there
        file.write_text(script, encoding="utf-8")
        done = subprocess.run(
            ["node", file.name, *arguments], cwd=self.folder, env={**os.environ, **(env or {})}, input=stdin,
            timeout=240, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def find_node(cache: Path) -> Node | str:
    """Node with the packages under `cache`, installed once for all runs; else why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are needed"
    folder = cache / hashlib.sha256(_PACKAGES.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            shutil.copy(_PACKAGES, folder)
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
            except subprocess.TimeoutExpired:
                return "npm's registry does not answer"
            if done.returncode:
                return f"npm cannot install {_PACKAGES.name}: {(done.stderr.strip().splitlines() or ['?'])[0]}"
            (folder / "installed").touch()
    return Node(folder)
