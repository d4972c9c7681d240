"""Memory and weight: what each role holds, and what a service pays that only publishes."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

from bench.deployment import BY_ROLE, deployment
from bench.ends import Ends, Say
from bench.flow import SMOLLM2, make_home, requests, run
from bench.report import Report, Row, report, row, skipped
from bench.services import services

NAME = "memory"
_ROOT = Path(__file__).parents[1]
_MAX_TOKENS = 32
_RUNS = 7
_PIP_SECONDS = 600
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
# The package loads its names when they are first used: the bare import alone would say too little. The third is what
# `Producer.from_env()` has loaded before it connects.
_IMPORTS = (
    "import headrace_producers",
    "from headrace_producers import Producer",
    "from headrace_producers import Producer; import headrace_producers.kafka",
)
_YARDSTICK = (
    "from pydantic import BaseModel"  # which a producer cannot do without: absolute times move with the machine
)
_AT_MOST = 2.0  # times the yardstick, for the second of them


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Each role in a process of its own after 256 SmolLM2 jobs (32 when quick); then the base install."""
    count = 32 if quick else 256
    with services(embedded=embedded) as there:
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        with deployment(there, home, [SMOLLM2], BY_ROLE) as live, live.producer() as producer, Ends(live.kafka) as ends:
            say(f"{count} SmolLM2 jobs")
            jobs = [
                {**request, "model": SMOLLM2, "max_tokens": _MAX_TOKENS, "lane": "batch"} for request in requests(count)
            ]
            run(producer, ends, jobs, say)
            rows = [found for name, pid in sorted(live.pids.items()) for found in _process(name, pid)]
        rows += _base_install(say)
        return report(NAME, there.stack, rows)


def _process(name: str, pid: int) -> list[Row]:
    import psutil

    leader = psutil.Process(pid)
    found = [child.memory_full_info() for child in (leader, *leader.children(recursive=True))]
    rows = [row(f"{name}, resident", sum(item.rss for item in found) / 2**20, "MiB")]
    if hasattr(found[0], "pss"):  # Linux: what is shared is divided among those who share it
        rows.append(row(f"{name}, proportional", sum(item.pss for item in found) / 2**20, "MiB"))
    return rows


def _base_install(say: Say) -> list[Row]:
    """The wheel without extras in an environment of its own: its size, and what importing the producer takes."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        say("the wheel is built, and installed without extras")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        before = _size(folder / "venv")
        try:
            _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(_ROOT))
            _pip(str(python), "install", str(next(folder.glob("headrace-*.whl"))))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return [skipped("base install and import", f"pip could not: {type(error).__name__}")]
        size = (_size(folder / "venv") - before) / 1e6
        rows = _imports(python)
    return [row("base install, bytes on disk without the environment's own", size, "MB"), *rows]


def _imports(python: Path) -> list[Row]:
    commands = {statement: [str(python), "-I", "-c", _TIMED.format(statement)] for statement in (*_IMPORTS, _YARDSTICK)}
    for command in commands.values():
        _seconds(command)  # fills the page cache
    took: dict[str, list[float]] = {statement: [] for statement in commands}
    for _ in range(_RUNS):  # in turns: the machine's speed moves
        for statement, command in commands.items():
            took[statement].append(1000 * _seconds(command))
    ratio = median(took[_IMPORTS[1]]) / median(took[_YARDSTICK])
    return [
        *(row(f"{name}, median of {_RUNS} processes", median(group), "ms") for name, group in took.items()),
        row(f"{_IMPORTS[1]}, to {_YARDSTICK}", ratio, "ratio", at_most=_AT_MOST),
    ]


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=_PIP_SECONDS)


def _seconds(command: list[str]) -> float:
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
