"""mutmut's mutants: made, drawn, tried, shown. Everything of mutmut's that this depends on is in this file."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# `mutmut run` makes the mutants too, but wants to be told their names before.
_MAKE = """
import sys
from pathlib import Path
from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants
Path("mutants").mkdir(exist_ok=True)
copy_src_dir()
copy_also_copy_files()
create_mutants(int(sys.argv[1]))
"""
# The tests run once to see which of them touch what; mutmut would run nearly all of them once more before the mutants.
_RUN = """
import sys
from mutmut.__main__ import cli
from mutmut.workers.isolation import ForkServerRunner
ForkServerRunner.run_clean_tests = lambda self, tests: 0
cli(["run", *sys.argv[1:]])
"""
_SAY_EVERY = 15.0
_NOTICED = {1: "killed", 3: "killed", 36: "timeout", 24: "timeout", -24: "timeout", 152: "timeout",
            255: "timeout"}  # fmt: skip
_MISSED = {0: "survived", 5: "no tests", 33: "no tests"}


class Mutants:
    """All of a tree, which `tree.make_tree` has made."""

    def __init__(self, folder: Path, processes: int) -> None:
        self._folder = folder
        self._processes = processes

    def make(self) -> list[str]:
        """Write them; their names, which say module, function and number."""
        self._call([sys.executable, "-c", _MAKE, str(self._processes)])
        return sorted(self._exit_codes())

    @staticmethod
    def draw(names: Sequence[str], count: int, seed: int) -> list[str]:
        """A sample, each as likely as any other."""
        return sorted(random.Random(seed).sample(list(names), min(count, len(names))))

    def run(self, names: Sequence[str]) -> dict[str, str]:
        """Try these; what became of each: killed, timeout, survived, no tests, or what else went wrong.

        First the tests run once, unmutated, to see which of them touch what: that takes some minutes.
        """
        argv = [sys.executable, "-c", _RUN, "--max-children", str(self._processes), *names]
        log = self._folder / "mutmut.log"
        begun = said = time.monotonic()
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(argv, cwd=self._folder, env=self._env(), stdout=out, stderr=out)
            while process.poll() is None:
                time.sleep(0.5)
                if time.monotonic() - said > _SAY_EVERY:
                    said = time.monotonic()
                    codes = self._exit_codes()
                    tried = sum(codes.get(name) is not None for name in names)
                    print(f"{said - begun:5.0f} s  {progress(tried, len(names))}", flush=True)
        if process.returncode:
            raise SystemExit(f"mutmut could not run; its log ends:\n{log.read_text(encoding='utf-8')[-3_000:]}")
        codes = self._exit_codes()
        return {name: _verdict(codes[name]) for name in names}

    def difference(self, name: str) -> str:
        return self._call([sys.executable, "-m", "mutmut", "show", name])

    def _exit_codes(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for meta in (self._folder / "mutants").rglob("*.meta"):
            found |= json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        return found

    def _call(self, argv: Sequence[str]) -> str:
        done = subprocess.run(argv, cwd=self._folder, env=self._env(), stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def _env(self) -> dict[str, str]:
        # Processes that tests start take the mutated code, too.
        return {**os.environ, "PYTHONPATH": str(self._folder / "mutants" / "src")}


def progress(tried: int, count: int) -> str:
    """What `Mutants.run` does at this moment: until it has tried one, it runs the tests as they are."""
    if tried:
        return f"{tried} of {count} tried"
    return "the tests run once, unmutated, to see which of them touch what; that takes some minutes"


def _verdict(code: int | None) -> str:
    if code is None:
        return "not tried"
    return _NOTICED.get(code) or _MISSED.get(code) or f"suspicious ({code})"
